#!/usr/bin/env python3
"""Has programs log in by each mechanism of SASL, with what is right and with what is not, over STARTTLS and over TLS from the start.

    auth.py --mailstead bin/mailstead --data DATA --port-base PORT --work DIR

The account is made with the operator's commands, like its app passwords, its certificate and the issuer of its tokens,
which is a small one here; its tickets of Kerberos are Debian's KDC's. Another is of a tenant whose users are in LDAP, which is killed in the middle. gsasl knows STARTTLS alone; curl, fetchmail, mutt, imtest of Cyrus, aiosasl and Python know both.
"""
import argparse
import asyncio
import base64
import hashlib
import http.server
import imaplib
import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import threading
import time

import aiosasl

import clients

LOGIN, PASSWORD = "auth@demo.test", "correct horse battery"
ANONYMOUS = os.environ["MAILSTEAD_AUTH_ANONYMOUS_ACCOUNT"]
PHRASE = "This is a test."  # of one-time passwords
TIMEOUT = 60


def run(*command, stdin=""):
    """Runs a program; whether it went well, and what it said."""
    done = subprocess.run([str(c) for c in command], input=stdin.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT)
    return done.returncode == 0, done.stdout.decode(errors="replace")


def must(*command, stdin=""):
    ok, said = run(*command, stdin=stdin)
    if not ok:
        raise SystemExit(f"{' '.join(map(str, command))}: {said}")
    return said


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Issues tokens, signed by openssl."""

    def __init__(self, work):
        self.key = work / "issuer.pem"
        must("openssl", "genrsa", "-out", self.key, "2048")
        modulus = must("openssl", "rsa", "-in", self.key, "-noout", "-modulus").split("=")[-1].strip()
        jwk = {"kty": "RSA", "kid": "one", "alg": "RS256", "use": "sig", "e": "AQAB", "n": b64url(bytes.fromhex(modulus))}
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                documents = {
                    "/.well-known/openid-configuration": {"issuer": issuer.url, "jwks_uri": issuer.url + "/keys"},
                    "/keys": {"keys": [jwk]},
                }
                self.send_response(200 if self.path in documents else 404)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(documents.get(self.path)).encode())

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def token(self, **say):
        claims = {"iss": self.url, "aud": "mail", "email": LOGIN, "email_verified": True, "exp": int(time.time()) + 600} | say
        text = b64url(json.dumps({"alg": "RS256", "kid": "one"}).encode()) + "." + b64url(json.dumps(claims).encode())
        signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key], input=text.encode(), stdout=subprocess.PIPE, check=True).stdout
        return text + "." + b64url(signature)


class Slapd:
    """Debian's slapd, with one user in it."""

    PEOPLE = """dn: dc=staff
objectClass: domain
dc: staff

dn: cn=search,dc=staff
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: search
userPassword: finder

dn: uid=jane,dc=staff
objectClass: account
objectClass: simpleSecurityObject
uid: jane@staff.test
userPassword: right
"""

    def __init__(self, work):
        self.dir = work / "slapd"
        (self.dir / "db").mkdir(parents=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        (self.dir / "slapd.conf").write_text("".join(line + "\n" for line in (
            "include /etc/ldap/schema/core.schema", "include /etc/ldap/schema/cosine.schema", "modulepath /usr/lib/ldap", "moduleload back_mdb", "database mdb",
            f"directory {self.dir}/db", "suffix dc=staff", "access to attrs=userPassword by anonymous auth", "access to * by dn.exact=cn=search,dc=staff read by * none")))
        must("/usr/sbin/slapadd", "-q", "-f", self.dir / "slapd.conf", stdin=self.PEOPLE)
        self.start()

    def start(self):
        with open(self.dir / "log", "ab") as log:
            self.process = subprocess.Popen(["/usr/sbin/slapd", "-f", self.dir / "slapd.conf", "-h", f"ldap://127.0.0.1:{self.port}/", "-d", "0"],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for _ in range(100):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise SystemExit("slapd does not listen")

    def stop(self):
        self.process.kill()
        self.process.wait()


class EndPoint(aiosasl.channel_binding.ChannelBindingProvider):
    """Binds an exchange to the server's certificate (RFC 5929 section 4), of which Python's TLS, unlike of tls-exporter, has what is needed."""

    cb_name = b"tls-server-end-point"

    def __init__(self, connection):
        self.connection = connection

    def extract_cb_data(self):
        return hashlib.sha256(self.connection.getpeercert(binary_form=True)).digest()  # it is signed with SHA-256


class Exchange(aiosasl.SASLInterface):
    """Carries what aiosasl says by imaplib's connection."""

    def __init__(self, connection):
        self.connection = connection

    def answer(self, *words):
        self.connection.send(b" ".join(words) + b"\r\n")
        kind, text = self.connection.readline().rstrip(b"\r\n").split(b" ", 1)
        while kind == b"*":
            kind, text = self.connection.readline().rstrip(b"\r\n").split(b" ", 1)
        if kind == b"+":
            return aiosasl.SASLState.CHALLENGE, base64.b64decode(text)
        if not text.startswith(b"OK"):
            raise aiosasl.SASLFailure(None, text.decode())
        return aiosasl.SASLState.SUCCESS, None

    async def initiate(self, mechanism, payload=None):
        return self.answer(b"a AUTHENTICATE", mechanism.encode(), base64.b64encode(payload))

    async def respond(self, payload):
        return self.answer(base64.b64encode(payload))

    async def abort(self):
        return self.answer(b"*")


class Clients:
    """Programs that log in. Each method returns whether it was let in, and what it said."""

    def __init__(self, o):
        self.starttls, self.implicit = o.port_base, o.port_base + 1
        self.ca, self.work = o.data / "tls" / "ca.pem", o.work
        self.certificate = None  # (file, key)

    @staticmethod
    def shows(ticket):
        os.environ["KRB5CCNAME"] = str(ticket)

    def gsasl(self, mechanism, secret, over, login=LOGIN):
        if over != "STARTTLS":
            return None
        command = ["gsasl", "--imap", f"--connect=localhost:{self.starttls}", "--hostname=localhost", "-m", mechanism, f"--x509-ca-file={self.ca}"]
        if self.certificate and mechanism == "EXTERNAL":
            command += [f"--x509-cert-file={self.certificate[0]}", f"--x509-key-file={self.certificate[1]}"]
        if mechanism.startswith("SCRAM") and not mechanism.endswith("-PLUS"):
            command.append("--no-cb")  # else it says that it could, and is right to be refused where -PLUS is offered
        if mechanism == "GSSAPI":
            self.shows(secret)
            return run(*command, "-z", "", "-a", login, stdin="\n")
        command += ["-n", secret] if mechanism == "ANONYMOUS" else ["-a", login, "-z", login if mechanism == "EXTERNAL" else "", "-p", secret]
        return run(*command, stdin="\n")

    def curl(self, mechanism, secret, over, login=LOGIN):
        url = f"imap://localhost:{self.starttls}/" if over == "STARTTLS" else f"imaps://localhost:{self.implicit}/"
        command = ["curl", "-sS", "-v", "--ssl-reqd", "--cacert", self.ca, "--login-options", f"AUTH={mechanism}", "-X", "NOOP", url]
        if mechanism == "GSSAPI":
            self.shows(secret)
            command += ["--user", login + ":"]
        elif mechanism in ("OAUTHBEARER", "XOAUTH2"):
            command += ["--user", login, "--oauth2-bearer", secret]
        elif mechanism == "EXTERNAL":
            command += ["--cert", self.certificate[0], "--key", self.certificate[1], "--user", login + ":"]
        else:
            command += ["--user", f"{login}:{secret}"]
        return run(*command)

    def fetchmail(self, mechanism, secret, over):
        auth = {"PLAIN": "password", "CRAM-MD5": "cram-md5", "EXTERNAL": "external"}[mechanism]
        port, tls = (self.starttls, "sslproto tls1.2+") if over == "STARTTLS" else (self.implicit, "ssl")
        rc = self.work / "fetchmailrc"
        key = f'sslcert "{self.certificate[0]}" sslkey "{self.certificate[1]}"' if mechanism == "EXTERNAL" else ""
        rc.write_text(f'poll localhost protocol imap port {port} auth {auth} user "{LOGIN}" password "{secret}" {tls} {key} sslcertck sslcertfile "{self.ca}"\n')
        rc.chmod(0o600)
        done = subprocess.run(["fetchmail", "--check", "-v", "-f", rc, "--pidfile", self.work / "fetchmail.pid"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=TIMEOUT)
        return done.returncode in (0, 1), done.stdout.decode(errors="replace")  # 1: there is no mail

    def mutt(self, mechanism, secret, over):
        url = f"imap://localhost:{self.starttls}/INBOX" if over == "STARTTLS" else f"imaps://localhost:{self.implicit}/INBOX"
        rc = self.work / "muttrc"
        rc.write_text(f'set ssl_force_tls ssl_starttls=yes ssl_ca_certificates_file="{self.ca}" certificate_file="" folder="{url[:-5]}" spoolfile="{url}"\n'
                      f'set imap_user="{LOGIN}" imap_pass="{secret}" imap_authenticators="{mechanism}" header_cache="" quit=yes wait_key=no beep=no\n')
        if mechanism == "GSSAPI":
            self.shows(secret)
        log = self.work / ".muttdebug0"
        log.unlink(missing_ok=True)
        try:
            clients.on_terminal(["mutt", "-n", "-F", str(rc), "-d", "2", "-f", url, "-e", "push '<quit>'"], timeout=15, TERM="xterm", HOME=str(self.work), LC_ALL="C.UTF-8")
        except AssertionError:
            pass  # it asks what to do where it is not let in
        said = log.read_text(errors="replace")
        return " SELECT " in said or " EXAMINE " in said, said

    def imtest(self, mechanism, secret, over):
        """Cyrus's, with its SASL, which makes a one-time password of the phrase, and begins another sequence where less than 490 is asked for."""
        port, tls = (self.starttls, ["-t", ""]) if over == "STARTTLS" else (self.implicit, ["-s"])
        _, said = run("/usr/lib/cyrus/bin/imtest", "-m", mechanism, "-a", LOGIN, "-w", secret, "-p", port, *tls, "localhost", stdin="z LOGOUT\r\n")
        return "Authenticated." in said, said

    def connected(self, over, certificate=None):
        context = ssl.create_default_context(cafile=self.ca)
        if certificate:
            context.load_cert_chain(*certificate)
        if over == "TLS":
            return imaplib.IMAP4_SSL("localhost", self.implicit, ssl_context=context, timeout=TIMEOUT)
        c = imaplib.IMAP4("localhost", self.starttls, timeout=TIMEOUT)
        c.starttls(context)
        return c

    def aiosasl(self, mechanism, secret, over):
        """A SASL library for Python, which checks the server's signature as well."""
        async def credentials():
            return LOGIN, secret

        c = self.connected(over)
        plus = aiosasl.SCRAMPLUS(credentials, EndPoint(c.sock))
        try:
            asyncio.run(plus.authenticate(aiosasl.SASLStateMachine(Exchange(c)), plus.any_supported([mechanism])))
            c.state = "AUTH"
            kind, _ = c.noop()
            c.logout()
            return kind == "OK", kind
        except aiosasl.SASLError as e:
            return False, str(e)

    def python(self, mechanism, secret, over):
        try:
            c = self.connected(over, self.certificate if mechanism == "EXTERNAL" else None)
            if f"AUTH={mechanism}" not in c.capabilities and mechanism != "LOGIN command":
                c.capability()
            if mechanism == "CRAM-MD5":
                c.login_cram_md5(LOGIN, secret)
            elif mechanism == "LOGIN command":
                c.login(LOGIN, secret)
            else:
                says = {"PLAIN": f"\0{LOGIN}\0{secret}", "ANONYMOUS": secret, "EXTERNAL": LOGIN,
                        "XOAUTH2": f"user={LOGIN}\1auth=Bearer {secret}\1\1", "OAUTHBEARER": f"n,a={LOGIN},\1auth=Bearer {secret}\1\1"}[mechanism]
                said = []
                c.authenticate(mechanism, lambda challenge: "\1" if said else said.append(challenge) or says)
            kind, _ = c.noop()
            c.logout()
            return kind == "OK", kind
        except imaplib.IMAP4.error as e:
            return False, str(e)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--mailstead", required=True)
    p.add_argument("--data", type=pathlib.Path, required=True)
    p.add_argument("--port-base", type=int, required=True)
    p.add_argument("--work", type=pathlib.Path, required=True)
    o = p.parse_args()
    mailstead = lambda *args, **kw: must(o.mailstead, "-c", o.data / "mailstead.yaml", *args, **kw)
    mailstead("account", "create", LOGIN, "--password-stdin", stdin=PASSWORD + "\n")
    app = lambda name, *args: json.loads(mailstead("account", "app-password", "add", LOGIN, name, "--json", *args))["password"]
    phone, cram = app("phone"), app("scanner", "--cram-md5")
    tenant = json.loads(mailstead("domain", "list", "--json"))
    tenant = next(d["tenant"] for d in tenant if d["name"] == LOGIN.split("@")[1])
    issuer = Issuer(o.work)
    mailstead("tenant", "issuer", "add", tenant, issuer.url, "--audience", "mail")

    certificates = {}
    for name in ("known", "unknown"):
        cert, key = o.work / f"{name}.crt", o.work / f"{name}.key"
        must("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=client", "-addext", f"subjectAltName=email:{LOGIN}", "-out", cert, "-keyout", key)
        certificates[name] = (cert, key)
    mailstead("account", "otp", LOGIN, "--phrase-stdin", "--sequence", "492", stdin=PHRASE + "\n")
    one_time = lambda: json.loads(mailstead("account", "otp", LOGIN, "--show", "--json"))
    begun = one_time()
    mailstead("account", "app-password", "add", LOGIN, "laptop", "--certificate", certificates["known"][0])

    c = Clients(o)
    right = {"OAUTHBEARER": issuer.token(), "XOAUTH2": issuer.token(), "CRAM-MD5": cram, "OTP": PHRASE, "ANONYMOUS": "anyone", "GSSAPI": o.work.parent / "krb5" / "auth.cc"}
    wrong = {"OAUTHBEARER": issuer.token(aud="other"), "XOAUTH2": issuer.token(exp=int(time.time()) - 60), "GSSAPI": o.work.parent / "krb5" / "stranger.cc"}
    scram = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-1"]
    uses = [
        (c.gsasl, ["PLAIN", "LOGIN", *scram, "EXTERNAL", "GSSAPI", "CRAM-MD5", "ANONYMOUS"]),
        (c.curl, ["PLAIN", "LOGIN", "CRAM-MD5", "EXTERNAL", "GSSAPI", "OAUTHBEARER", "XOAUTH2"]),
        (c.fetchmail, ["PLAIN", "CRAM-MD5", "EXTERNAL"]),
        (c.mutt, ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "SCRAM-SHA-1", "GSSAPI"]),
        (c.imtest, ["OTP"]),
        (c.aiosasl, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"]),
        (c.python, ["LOGIN command", "PLAIN", "CRAM-MD5", "EXTERNAL", "OAUTHBEARER", "XOAUTH2", "ANONYMOUS"]),
    ]
    only = os.environ.get("ONLY", "")
    failures, count = [], 0
    for client, mechanisms in uses:
        for mechanism in mechanisms:
            if only and mechanism not in only.split(","):
                continue
            tries = [("right", right.get(mechanism, PASSWORD), True)]
            if mechanism in ("PLAIN", *scram):
                tries.append(("an app password", phone, True))
            tries.append(("wrong", wrong.get(mechanism, "wrong"), False))
            if mechanism == "OTP":
                tries.append(("another sequence", PHRASE, True))
            for what, secret, let_in in tries:
                refusal = "AUTHENTICATIONFAILED"
                if mechanism == "ANONYMOUS":  # by which nothing can be wrong but that the account it stands for is not let in
                    mailstead("account", "enable" if let_in else "disable", ANONYMOUS)
                    refusal = "CONTACTADMIN"
                c.certificate = certificates["known" if let_in else "unknown"]
                for over in ("STARTTLS", "TLS"):
                    got = client(mechanism, secret, over)
                    if got is None:
                        continue
                    count += 1
                    ok = got[0] == let_in and (let_in or refusal in got[1])  # and for no other reason
                    print(f"{'ok  ' if ok else 'FAIL'} {client.__name__} {mechanism} over {over}: {what}", flush=True)
                    if not ok:
                        failures.append(f"{client.__name__} {mechanism} over {over}, {what}:\n{got[1]}")

    if not only or "OTP" in only.split(","):
        now = one_time()  # two logins, one that began another sequence of 499, and one of that
        if begun["sequence"] != 491 or now["sequence"] != 497 or now["seed"] == begun["seed"]:
            failures.append(f"one-time passwords were at {begun}, and are at {now}")

    # Users of a directory: with what that says, and while it is away.
    login = "jane@staff.test"
    mailstead("tenant", "create", "staff")
    mailstead("domain", "create", "staff.test", "--tenant", "staff")
    mailstead("account", "create", login, "--no-password")
    slapd = Slapd(o.work)
    try:
        mailstead("directory", "set", "staff", f"ldap://127.0.0.1:{slapd.port}", "--plaintext", "--base", "dc=staff", "--filter", "(uid={login})",
                  "--account", "cn=search,dc=staff", "--secret", "ldap")
        for away in (False, True, False):
            if away:
                slapd.stop()
            elif slapd.process.poll() is not None:
                slapd.start()
            for client, mechanism, over in ((c.gsasl, "PLAIN", "STARTTLS"), (c.gsasl, "LOGIN", "STARTTLS"), (c.curl, "PLAIN", "TLS"), (c.curl, "LOGIN", "STARTTLS")):
                for what, secret in (("right", "right"), ("wrong", "wrong")):
                    ok, said = client(mechanism, secret, over, login)
                    count += 1
                    right = what == "right"  # which is remembered while the directory is away
                    good = ok == right and (right or ("UNAVAILABLE" if away else "AUTHENTICATIONFAILED") in said)
                    print(f"{'ok  ' if good else 'FAIL'} {client.__name__} {mechanism} over {over}: {what} by LDAP{', which is away' if away else ''}", flush=True)
                    if not good:
                        failures.append(f"{client.__name__} {mechanism} over {over}, {what} by LDAP, away {away}:\n{said}")
    finally:
        slapd.stop()

    # What is changed counts at once.
    mailstead("account", "app-password", "revoke", LOGIN, "phone")
    if c.python("PLAIN", phone, "TLS")[0]:
        failures.append("an app password that was revoked lets in")
    for failure in failures:
        print(failure, file=sys.stderr)
    if failures:
        sys.exit(f"{len(failures)} of {count} logins did not go as they should")
    print(f"{count} logins went as they should")


main()
