"""The three servers of the comparison, each a child process on loopback with a folder of its own.

All of them get the same job: their own domain is gw.example, one component may connect as chat.example with the secret
below, an element may have 10,000 bytes (the least that RFC 6120 §13.12 allows), and there are no users. What they can
answer about themselves (ping, disco, version, time, last activity) is switched on. Everything else is their default.
"""

import json
import os
import signal
import socket
import subprocess
import time

SERVER = "gw.example"
COMPONENT = "chat.example"
SECRET = "s3cr3t-of-the-component"
LIMIT = 10_000  # bytes of one element
HANDSHAKE = 6  # seconds that a component has for it, where that can be set
PATIENCE = 60  # seconds to start; it only runs out when something is broken


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A child process that listens for components at self.port. start() returns when it does."""

    name = version = ""

    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        self.child = None
        os.makedirs(folder)

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def spawn(self, argv, **env):
        with open(os.path.join(self.folder, "output"), "wb") as output:
            self.child = subprocess.Popen(
                argv, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env={**os.environ, "HOME": self.folder, **env}, start_new_session=True)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if self.child.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{self.name} does not start:\n{self.output()}")
                time.sleep(0.05)

    def output(self):
        with open(os.path.join(self.folder, "output"), errors="replace") as f:
            return f.read()

    def stop(self):
        """Ends the child, by its id, and waits for it."""
        if self.child is None:
            return
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(20)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


class Presenced(Server):
    name = "Presenced"

    def __init__(self, folder, binary):
        super().__init__(folder)
        self.binary = binary

    def start(self):
        config = self.write("presenced.toml", f'''
domain = "{SERVER}"
data = "{self.folder}/data"
[http]
listen = "127.0.0.1:0"
[admin]
listen = ""
[xmpp]
listen = "127.0.0.1:{self.port}"
max_stanza = {LIMIT}
handshake_timeout = "{HANDSHAKE}s"
''')
        app = {"appid": "chat", "name": "Chat", "component": COMPONENT, "secret": SECRET, "conflict": "replace"}
        subprocess.run([self.binary, "--config", config, "import", "-"], input=json.dumps({"app": app}) + "\n",
                       text=True, check=True, stdout=subprocess.DEVNULL)
        self.spawn([self.binary, "--config", config, "serve"])


class Prosody(Server):
    name = "Prosody"

    def start(self):
        self.version = debian_version("prosody")
        config = self.write("prosody.cfg.lua", f'''
run_as_root = true
pidfile = "{self.folder}/prosody.pid"
data_path = "{self.folder}/data"
certificates = "{self.folder}"
log = {{ {{ levels = {{ min = "warn" }}, to = "console" }} }}
modules_enabled = {{ "disco", "ping", "version", "time", "uptime" }}
modules_disabled = {{ "s2s", "c2s", "offline" }}
component_interfaces = {{ "127.0.0.1" }}
component_ports = {{ {self.port} }}
component_stanza_size_limit = {LIMIT}
VirtualHost "{SERVER}"
Component "{COMPONENT}"
    component_secret = "{SECRET}"
''')
        self.spawn(["/usr/bin/prosody", "-F", "--config", config])


class Ejabberd(Server):
    name = "ejabberd"

    def start(self):
        self.version = debian_version("ejabberd")
        config = self.write("ejabberd.yml", f'''
hosts: ["{SERVER}"]
loglevel: warning
negotiation_timeout: {HANDSHAKE}
certfiles: []
listen:
  - port: {self.port}
    ip: "127.0.0.1"
    module: ejabberd_service
    max_stanza_size: {LIMIT + 1}
    hosts:
      "{COMPONENT}": {{password: "{SECRET}"}}
modules:
  mod_disco: {{}}
  mod_ping: {{}}
  mod_version: {{}}
  mod_time: {{}}
  mod_last: {{}}
''')
        # max_stanza_size is the first size that is refused. Names are looked up on loopback only, where nobody answers.
        inetrc = self.write("inetrc", '{resolv_conf, ""}.\n{nameserver, {127,0,0,1}}.\n')
        # Neither a name nor a cookie: the Erlang node talks to no other, so no port mapper is started.
        self.spawn(["erl", "-noinput", "-mnesia", "dir", f'"{self.folder}/mnesia"', "-s", "ejabberd"],
                   EJABBERD_CONFIG_PATH=config, EJABBERD_LOG_PATH=os.path.join(self.folder, "ejabberd.log"),
                   ERL_INETRC=inetrc, ERL_CRASH_DUMP=os.path.join(self.folder, "crash"), ERL_LIBS="/usr/lib/x86_64-linux-gnu")


def debian_version(package):
    got = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True)
    if got.returncode != 0:
        raise SystemExit(f"{package} is not installed: apt-get install {package}")
    return got.stdout
