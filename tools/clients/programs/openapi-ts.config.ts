// hey-api's own settings: Node finds a module by its whole name alone.

export default {input: '../../../openapi.yaml', output: {path: 'hey_api', module: {extension: '.js'}}};
