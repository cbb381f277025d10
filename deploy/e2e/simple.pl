#!/usr/bin/env perl
# Reads and changes mail with Net::IMAP::Simple:
#   simple.pl HOST:PORT CA LOGIN PASSWORD read BOX FOLDER    each message to a file
#   simple.pl HOST:PORT CA LOGIN PASSWORD change BOX OTHER   the message on standard input put into BOX, copied to OTHER, deleted from BOX
use strict;
use warnings;
use IO::Socket::SSL;
use Net::IMAP::Simple;

my ($server, $ca, $login, $password, $verb, $box, $other) = @ARGV;
my $imap = Net::IMAP::Simple->new($server, use_ssl => 1, timeout => 120,
    ssl_options => [SSL_ca_file => $ca, SSL_verify_mode => IO::Socket::SSL::SSL_VERIFY_PEER()])
    or die "connect: $Net::IMAP::Simple::errstr\n";
$imap->login($login, $password) or die "login: " . $imap->errstr . "\n";
my $count = $imap->select($box);
defined $count or die "select: " . $imap->errstr . "\n";

if ($verb eq 'read') {
    for my $i (1 .. $count) {
        my @lines = $imap->get($i) or die "get $i: " . $imap->errstr . "\n";
        open my $out, '>:raw', sprintf('%s/%06d', $other, $i) or die $!;
        print $out @lines;
        close $out or die $!;
    }
} elsif ($verb eq 'change') {
    binmode STDIN;
    my $message = do { local $/; <STDIN> };
    $imap->put($box, $message, '\Flagged') or die "put: " . $imap->errstr . "\n";
    $count = $imap->select($box);
    $imap->flagged($count) or die "not flagged\n" if $imap->can('flagged');
    $imap->copy($count, $other) or die "copy: " . $imap->errstr . "\n";
    $imap->delete($count) or die "delete: " . $imap->errstr . "\n";
    $imap->expunge_mailbox($box);
    my $left = $imap->select($box);
    $left == $count - 1 or die "$left messages after the expunge, want " . ($count - 1) . "\n";
} else {
    die "unknown verb $verb\n";
}
$imap->quit;
