#!/usr/bin/env perl
# Reads and changes mail with Mail::IMAPClient, as programs.py says:
#   client.pl HOST:PORT CA LOGIN PASSWORD FOLDER    each message of INBOX to a file; what to put into Sent on standard input
use strict;
use warnings;
use IO::Socket::SSL;
use Mail::IMAPClient;

my ($server, $ca, $login, $password, $folder) = @ARGV;
my $socket = IO::Socket::SSL->new(PeerAddr => $server, SSL_ca_file => $ca, SSL_verify_mode => IO::Socket::SSL::SSL_VERIFY_PEER())
    or die "connect: $IO::Socket::SSL::SSL_ERROR\n";
my $imap = Mail::IMAPClient->new(Socket => $socket, User => $login, Password => $password, Uid => 1, Peek => 1, Ignoresizeerrors => 0)
    or die "login: $@\n";
sub demand { my ($what, $done) = @_; defined $done && $done or die "$what: " . ($imap->LastError // 'nothing') . "\n"; $done }

demand('select', $imap->select('INBOX'));
my @uids = $imap->messages;
@uids == 6 or die scalar(@uids) . " messages\n";
for my $uid (@uids) {
    open my $out, '>:raw', "$folder/$uid" or die $!;
    print $out demand("message $uid", $imap->message_string($uid));
    close $out or die $!;
}
my ($first) = $imap->search('SUBJECT "message 0"');
demand('flag', $imap->set_flag('Flagged', $first));
my ($second) = $imap->search('SUBJECT "message 1"');
demand('move', $imap->move('Junk', $second));
my ($third) = $imap->search('SUBJECT "message 2"');
demand('delete', $imap->delete_message($third));
demand('expunge', $imap->expunge);
binmode STDIN;
my $note = do { local $/; <STDIN> };
demand('append', $imap->append_string('Sent', $note, '\Seen'));
$imap->logout;
