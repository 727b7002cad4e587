#!/usr/bin/perl
# Drives one guest through Sys::Virt; prints "ok WHAT" or "bad WHAT" per step. Arguments: URI, domain XML.
use strict;
use warnings;
use Sys::Virt;
use Sys::Virt::Domain;

my ($uri, $file) = @ARGV;
my $xml = do { local (@ARGV, $/) = ($file); <> };
my $failed = 0;

sub check {
    my ($good, $what) = @_;
    $failed ||= !$good;
    print(($good ? "ok " : "bad "), $what, "\n");
}

my $virt = Sys::Virt->new(uri => $uri);
check($virt->get_type eq "Xen", "type");
check($virt->get_node_info->{memory} > 0, "node info");
my $domain = $virt->define_domain($xml);
check($domain->get_name eq "pl", "define");
$domain->create;
check($domain->is_active, "create");
my $stream = $virt->new_stream;
$domain->open_console($stream, undef);
my $text = "";
while ($text !~ /guest: up after/) {
    my $read = $stream->recv(my $data, 65536);
    last if $read <= 0;
    $text .= $data;
}
check($text =~ /guest: up after/, "console");
$stream->abort;
my $info = $domain->get_info;
check($info->{state} == Sys::Virt::Domain::STATE_RUNNING && $info->{memory} == 262144, "info");
$domain->suspend;
check(($domain->get_state)[0] == Sys::Virt::Domain::STATE_PAUSED, "suspend");
$domain->resume;
$domain->shutdown;
for (1 .. 600) {
    last unless $domain->is_active;
    select(undef, undef, undef, 0.2);
}
check(!$domain->is_active, "shutdown");
$domain->undefine;
check(!grep({ $_->get_name eq "pl" } $virt->list_all_domains), "undefine");
exit $failed;
