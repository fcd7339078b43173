"""The addresses of a Redis: what they mean, and what is said of a wrong one, which never shows what was given."""

import tempfile
import unittest
from pathlib import Path

from c42_proxy.redis_url import RedisUrl, WrongUrl
from harness.needs import needs
from harness.tls import Authority

PASSWORD = "s3kr3t-p4ssw0rd"


class RedisUrlTest(unittest.TestCase):
    def test_kinds(self) -> None:
        """Each kind of address, with its default ports and the parts that it may lack."""
        login = {"username": "us/er", "password": "p@ss:?"}
        for url, expected in {
            "redis://h": RedisUrl("server", False, (("h", 6379),)),
            "valkey://my_host:1/": RedisUrl("server", False, (("my_host", 1),)),
            "rediss://us%2Fer:p%40ss:%3F@[::1]:65535/12": RedisUrl(
                "server", True, (("::1", 65535),), db=12, login=login
            ),
            "valkeys://:p@ss@h/3": RedisUrl("server", True, (("h", 6379),), db=3, login={"password": "p@ss"}),
            "unix:///run/a%20b.sock": RedisUrl("socket", False, (), "/run/a b.sock"),
            "unix://us%2Fer:p%40ss:%3F@/r.sock?db=7": RedisUrl("socket", False, (), "/r.sock", db=7, login=login),
            "redis+sentinel://a,b:1,[::1]/the%20one": RedisUrl(
                *("sentinel", False, (("a", 26379), ("b", 1), ("::1", 26379))), name="the one"
            ),
            "rediss+sentinel://us%2Fer:p%40ss:%3F@a/one/5?sentinel_username=u+v&sentinel_password=p%40ss%26=": RedisUrl(
                *("sentinel", True, (("a", 26379),)),
                name="one",
                db=5,
                login=login,
                sentinel_login={"username": "u+v", "password": "p@ss&="},
            ),
            "redis+cluster://a:1,b/0": RedisUrl("cluster", False, (("a", 1), ("b", 6379))),
            "valkeys+cluster://a": RedisUrl("cluster", True, (("a", 6379),)),
        }.items():
            with self.subTest(url):
                self.assertTrue(RedisUrl.is_meant(url))
                self.assertEqual(expected, RedisUrl.parsed(url))
                self.assertNotIn("p@ss", repr(RedisUrl.parsed(url)))

    def test_where(self) -> None:
        """As text, it says where the server is, and nothing of users and passwords."""
        for url, where in (
            ("redis://u:p@h/1", "h:6379"),
            ("unix://u:p@/r.sock?db=1", "/r.sock"),
            ("redis+sentinel://u:p@a,[::1]:1/one/1?sentinel_password=p", "a:26379,[::1]:1/one"),
            ("redis+cluster://u:p@a,b", "a:6379,b:6379"),
        ):
            self.assertEqual(where, str(RedisUrl.parsed(url)))

    def assert_wrong(self, says: str, *urls: str) -> None:
        for url in urls:
            with self.subTest(url):
                self.assertTrue(RedisUrl.is_meant(url))
                with self.assertRaisesRegex(WrongUrl, says) as caught:
                    RedisUrl.parsed(url)
                self.assertNotIn(PASSWORD, str(caught.exception))

    def test_wrong(self) -> None:
        """Each mistake is told by a sentence that says what is expected."""
        self.assert_wrong(
            "begins with redis://, .*in a user and a password, write / as %2F",
            *("redis:", "redis:localhost", "redis+sentinels://a/one", "rediss+unix:///a", "redis://localhost/0 "),
            *(f"redis://:{PASSWORD}#@localhost", "redis://local host"),
        )
        self.assert_wrong(
            "expected is host or host:port, with a port from 1 to 65535; in a user and a password",
            *("redis://", "redis:///0", "redis://:6379/0", "redis://localhost:0", "redis://localhost:65536"),
            "redis://localhost:65537",
            *("redis://localhost:port", "redis://[::1", "redis+cluster://a,,b", f"redis://:{PASSWORD}/@localhost"),
        )
        self.assert_wrong(
            "after the host comes the number of the data", "redis://h/zero", "redis://h/-1", "redis://h/0/1"
        )
        self.assert_wrong("for several hosts, take redis.sentinel:// or redis.cluster://", "redis://a:1,b:1/0")
        self.assert_wrong(
            "after unix:// comes the whole path of a socket",
            *("unix://", "unix://r.sock", "unix://run/r.sock", "unix:///"),
        )
        self.assert_wrong(
            "after the Sentinels come the name of the primary that they watch, .*/mymaster/0",
            *(
                "redis+sentinel://a:1",
                "redis+sentinel://a/",
                "redis+sentinel://a/0",
                "redis+sentinel://a/one/two",
                "redis+sentinel://a/one/1/2",
            ),
        )
        self.assert_wrong("a cluster has only database 0", "redis+cluster://a/1", "redis+cluster://a/name")

    def test_wrong_parameters(self) -> None:
        """A parameter that is not allowed, or stands for nothing, is refused; those that are allowed are named."""
        for allowed, urls in {
            "none .those of TLS": (f"redis://h?password={PASSWORD}", f"redis://:pa?{PASSWORD}@h", "redis://h?db=1"),
            "ssl_ca_certs, ssl_certfile, ssl_keyfile .t": ("rediss://h?ssl_cert_reqs=none", "rediss://h?ssl_ca_certs="),
            "db .th": ("unix:///r.sock?socket_timeout=1", "unix:///r.sock?db"),
            "sentinel_username, sentinel_password .t": ("redis+sentinel://a/one?db=1",),
            "none .th": ("redis+cluster://a?sentinel_password=p", "redis+cluster://a?ssl_ca_certs=/ca.pem"),
        }.items():
            self.assert_wrong(f"may have after \\? are {allowed}", *urls)
        self.assert_wrong("db is the number of a database", "unix:///r.sock?db=one")

    @needs("openssl")
    def test_files(self) -> None:
        """The files are tried: a file that is not there, has no PEM, or has a key with a passphrase is refused."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        authority = Authority(folder)
        file, locked = authority.file, authority.locked_key()
        (folder / "no.pem").write_text("no certificate")
        both = f"ssl_certfile={file}"
        found = RedisUrl.parsed(f"rediss://h?ssl_ca_certs={file}&{both}&ssl_keyfile={file}").files
        self.assertEqual({f"{file}"}, set(found.values()))
        self.assertEqual({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}, found.keys())
        for says, query in (
            (r"ssl_ca_certs must be readable PEM files \(No such file or directory\)", f"ssl_ca_certs={folder}/none"),
            (r"ssl_ca_certs must be readable PEM files \(.+\)", f"ssl_ca_certs={folder}/no.pem"),
            (r"ssl_ca_certs must be readable PEM files \(.+\)", "ssl_ca_certs=%00"),
            (r"ssl_certfile and ssl_keyfile must be a pair .*\(No such", f"ssl_certfile={folder}/none"),
            (r"ssl_certfile and ssl_keyfile must be a pair without a pass", f"{both}&ssl_keyfile={locked}"),
            ("ssl_keyfile needs ssl_certfile", f"ssl_keyfile={file}"),
        ):
            self.assert_wrong(says, f"rediss://h?{query}")
