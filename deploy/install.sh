#!/usr/bin/env bash
# Installs the Debian packages that are missing, for the purposes named:
#
#   deploy/install.sh dev|test|deploy|e2e|clients|auth|backup...
#
# dev: `mailstead dev`; test: `make test`; deploy: its checks of units and alert rules; e2e: the mail clients
# of `make e2e`; clients: the further ones of `make e2e-clients`; auth: those of `make e2e-auth`; backup: what `make e2e-backup` compares with.
set -euo pipefail

packages=()
need() { # need PACKAGE TEST...: the package is missing where the test fails
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || packages+=("$package")
}
has() { command -v "$1" || [ -x "/usr/sbin/$1" ]; }

for purpose in "$@"; do
  case $purpose in
    dev)
      need ca-certificates test -s /etc/ssl/certs/ca-certificates.crt # for the Go modules
      [ -n "${MAILSTEAD_POSTGRES_BIN:-}" ] || need postgresql compgen -G '/usr/lib/postgresql/*/bin/postgres'
      ;;
    test)
      need gcc has gcc # for the race detector
      need libc6-dev test -e /usr/include/stdio.h
      need pgbouncer has pgbouncer
      need slapd has slapd
      need poppler-utils has pdftotext
      ;;
    deploy)
      need systemd has systemd-analyze
      need prometheus has promtool
      need openssl has openssl
      ;;
    e2e)
      need isync has mbsync
      need curl has curl
      need mutt has mutt
      need python3 has python3
      need perl has perl
      need openssl has openssl
      need libio-socket-ssl-perl perl -MIO::Socket::SSL -e 1
      need libnet-imap-simple-perl perl -MNet::IMAP::Simple -e 1
      ;;
    clients)
      need neomutt has neomutt
      need alpine has alpine
      need offlineimap3 has offlineimap
      need fetchmail has fetchmail
      need getmail6 has getmail
      need imapfilter has imapfilter
      need libmail-imapclient-perl perl -MMail::IMAPClient -e 1
      need nodejs has node
      need npm has npm
      ;;
    auth)
      need gsasl has gsasl
      need cyrus-clients test -x /usr/lib/cyrus/bin/imtest
      need libsasl2-modules-otp compgen -G '/usr/lib/*/sasl2/libotp.so'
      need fetchmail has fetchmail
      need slapd has slapd
      need python3-aiosasl /usr/bin/python3 -c 'import aiosasl'
      need krb5-kdc has krb5kdc
      need krb5-admin-server has kadmin.local
      need krb5-user has kinit
      ;;
    backup)
      need offlineimap3 has offlineimap
      need bsdutils has script
      ;;
    *)
      echo "install.sh: unknown purpose $purpose" >&2
      exit 2
      ;;
  esac
done
[ ${#packages[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "missing packages; as root: apt-get install ${packages[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
echo "installing ${packages[*]}"
case " ${packages[*]} " in *" slapd "*) # no directory of this machine is asked for
  echo 'slapd slapd/no_configuration boolean true' | "${as_root[@]}" debconf-set-selections ;;
esac
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
