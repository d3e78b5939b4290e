# An app service on AnyEvent::XMPP 0.55, driven line by line: see README.md.
#
# What is good to know about AnyEvent::XMPP:
# - A component's name goes into "domain", and session_ready, not stream_ready, says that it is connected. So its
#   keepalive by white space, which waits for stream_ready, never begins.
# - It writes each stanza in the namespace jabber:client and looks for <error/> there, on a component's stream too. The
#   gateway ends that with invalid-namespace (RFC 6120 §4.8.3). One line mends both: the
#   alias for "client" below.
# - Ext::Ping answers pings, with the addresses exchanged; other requests are answered with service-unavailable.
# - A connection cannot be used a second time; each try has a new one.

use strict;
use warnings;

use AnyEvent;
use AnyEvent::Handle;
use AnyEvent::XMPP::Component;
use AnyEvent::XMPP::Error::Message;
use AnyEvent::XMPP::Error::Presence;
use AnyEvent::XMPP::Ext::Ping;
use AnyEvent::XMPP::Namespaces qw/set_xmpp_ns_alias/;
use JSON::PP;
use POSIX ();

my $json = JSON::PP->new->utf8->canonical;
$| = 1;

set_xmpp_ns_alias(@$_) for (
    [client => 'jabber:component:accept'],
    [delayed => 'urn:xmpp:delay'], [nickname => 'http://jabber.org/protocol/nick'], [oob => 'jabber:x:oob'],
    [receipts => 'urn:xmpp:receipts'],
);

my ($cfg, $con, $retry);
my ($tries, $leaving) = (0, 0);
my $done = AnyEvent->condvar;

sub report {
    my ($event, %fields) = @_;
    delete $fields{$_} for grep { !defined $fields{$_} } keys %fields;
    print $json->encode({event => $event, %fields}), "\n";
}

sub dial {
    $con = AnyEvent::XMPP::Component->new(
        domain => $cfg->{jid}, secret => $cfg->{secret}, host => $cfg->{host}, port => $cfg->{port});
    $con->add_extension(AnyEvent::XMPP::Ext::Ping->new);
    $con->reg_cb(
        session_ready => sub { $tries = 0; report('connected') },
        recv_stanza_xml => sub { heard($_[1]) },
        stream_error => sub { report('stream-error', condition => $_[1]->name) },
        disconnect => sub { lost() },
    );
    $con->connect;
}

sub lost {
    report('disconnected');
    return $done->send if $leaving || !$cfg->{reconnect};
    my $pause = 0.05 * 2**$tries++;
    $retry = AnyEvent->timer(after => $pause < 3 ? $pause : 3, cb => \&dial);
}

sub heard {
    my ($n) = @_;
    my %who = map { $_ => $n->attr($_) } qw/from to id/;
    my $type = $n->attr('type') // '';
    if ($n->eq(component => 'presence')) {
        return refused(presence => AnyEvent::XMPP::Error::Presence->new(node => $n), %who) if $type eq 'error';
        presence($n, $type, %who);
    } elsif ($n->eq(component => 'message')) {
        return refused(message => AnyEvent::XMPP::Error::Message->new(node => $n), %who) if $type eq 'error';
        message($n, %who);
    } elsif ($n->eq(component => 'iq') && $n->find_all([qw/ping ping/])) {
        report('pinged', %who); # and Ext::Ping answers
    }
}

sub refused {
    my ($kind, $error, %who) = @_;
    report('error', %who, stanza => $kind, condition => $error->condition, type => $error->type);
}

sub text {
    my ($found) = $_[0]->find_all($_[1]);
    return $found ? $found->text : undef;
}

sub presence {
    my ($n, $type, %who) = @_;
    my ($delay) = $n->find_all([qw/delayed delay/]);
    report('presence', %who, type => $type, show => text($n, [qw/component show/]), delay => $delay && $delay->attr('stamp'));
}

sub message {
    my ($n, %who) = @_;
    my ($receipt) = $n->find_all([qw/receipts received/]);
    return report('receipt', %who, id => $receipt->attr('id')) if $receipt;
    report('message', %who, body => text($n, [qw/component body/]));
}

# ask sends an iq; the library numbers it.
sub ask {
    my ($c, $ns, $name, %who) = @_;
    my $answer = sub {
        my ($n, $error) = @_;
        return refused(iq => $error, from => $c->{to}, id => $c->{id}) if $error;
        my @features = $n->find_all([qw/disco_info query/], [qw/disco_info feature/]);
        report('result', id => $c->{id}, features => [map { $_->attr('var') } @features]);
    };
    $con->send_iq(get => {defns => $ns, node => {ns => $ns, name => $name}}, $answer, %who, to => $c->{to});
}

sub leave {
    $leaving = 1;
    undef $retry;
    return $done->send unless $con && $con->is_connected;
    $con->{writer}->send_end_of_stream; # the gateway closes
}

my %commands = (
    message => sub {
        my ($c, %who) = @_;
        my @children = map { {name => $_, childs => [$c->{$_}]} } grep { defined $c->{$_} } 'body';
        push @children, {dns => 'receipts', name => 'request'} if $c->{receipt};
        push @children, {dns => 'nickname', name => 'nick', childs => [$c->{nick}]} if defined $c->{nick};
        push @children, {dns => 'oob', name => 'x', childs => [{ns => 'oob', name => 'url', childs => [$c->{url}]}]} if defined $c->{url};
        $con->send_message($c->{to}, 'normal', [map { {defns => 'component', node => $_} } @children], %who, id => $c->{id});
    },
    presence => sub {
        my ($c, %who) = @_;
        my $status = defined $c->{status} && {defns => 'component', node => {name => 'status', childs => [$c->{status}]}};
        $con->send_presence($c->{type}, $status || undef, %who, to => $c->{to});
    },
    ping => sub { ask(shift, ping => 'ping', @_) },
    disco => sub { ask(shift, disco_info => 'query', @_) },
    disconnect => \&leave,
    crash => sub { POSIX::_exit(3) },
);

my $in = AnyEvent::Handle->new(fh => \*STDIN, on_eof => \&leave, on_error => \&leave);
$in->on_read(sub {
    $in->push_read(line => sub {
        my $c = $json->decode($_[1]);
        return $commands{$c->{do}}->($c, from => $c->{from} // $cfg->{jid}) if $cfg;
        $cfg = $c;
        dial();
    });
});
$done->recv;
