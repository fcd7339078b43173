"""nginx that answers from its cache: what a cache written in C does on the same core."""

import json
import os

from harness.processes import clean_environ, free_port
from tools.bench.bench import Bench
from tools.bench.processes import Server

_CONFIG = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    server_tokens off;
    keepalive_requests 100000000;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    proxy_cache_path {folder}/nginx-cache keys_zone=answers:1m;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://unix:{folder}/origin.sock;
            proxy_cache answers;
            proxy_cache_valid 200 1h;
            proxy_ignore_headers Expires X-Accel-Expires Cache-Control;
        }}
    }}
    server {{
        listen unix:{folder}/origin.sock;
        default_type application/json;
        {headers}
        return 200 '{body}';
    }}
}}
"""


def start_nginx(bench: Bench) -> Server:
    """With one worker, the same answer and headers, and an origin of its own that is asked once."""
    answer = json.loads(bench.answer.read_text())
    headers = [
        f"add_header {name} '{value}';"
        for name, value in answer["headers"]
        if name not in {"content-type", "content-length"}
    ]
    port = free_port()
    config = bench.folder / "nginx.conf"
    config.write_text(
        _CONFIG.format(
            # Started by root, nginx would give its workers to a user that may not read our folder.
            user="user root;" if os.geteuid() == 0 else "",
            folder=bench.folder,
            port=port,
            headers="\n        ".join(headers),
            body=answer["body"],
        )
    )
    command = ["nginx", "-c", str(config), "-e", str(bench.folder / "nginx-error.log")]
    return Server(command, port=port, core=bench.cores.server, environ=clean_environ())
