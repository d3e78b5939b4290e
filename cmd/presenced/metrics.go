package main

import (
	"slices"

	"presenced/presence"
	"presenced/presence/errno"
	"presenced/store"
	"presenced/wsbridge"
	"presenced/wsbridge/push"
	"presenced/xmppsrv"
	"presenced/xmppsrv/ccs"
)

// allStats is what one scrape of /metrics is made of.
type allStats struct {
	hub    presence.Stats
	store  store.Stats
	bridge wsbridge.Stats
	xmpp   xmppsrv.Stats
	ccs    ccs.Stats
	push   push.Stats
}

// metrics returns how to read the numbers, and the table of them.
func (g *gateway) metrics() (func() *allStats, []metric) {
	read := func() *allStats {
		return &allStats{g.hub.Stats(), g.store.Stats(), g.bridge.Stats(), g.xmpp.Stats(), g.ccs.Stats(), g.pushStats()}
	}
	return read, slices.Concat(hubMetrics(), storeMetrics(), bridgeMetrics(), xmppMetrics(), ccsMetrics(), pushMetrics())
}

func hubMetrics() []metric {
	return []metric{
		gauge("users_present", "Users with a device that is connected or lingers.",
			func(s *allStats) int { return s.hub.Users }),
		gauge("devices_connected", "Devices that are connected.",
			func(s *allStats) int { return s.hub.Sessions }),
		gauge("devices_lingering", "Devices that were lost and still count as there.",
			func(s *allStats) int { return s.hub.Lingering }),
		gauge("apps", "Registered apps.",
			func(s *allStats) int { return s.hub.Apps }),
		gauge("app_connections", "Connections of apps.",
			func(s *allStats) int { return s.hub.Links }),
		counter("presence_published", "Presence updates by devices.",
			func(s *allStats) uint64 { return s.hub.Published }),
		counter("notifications_accepted", "Notifications accepted from apps.",
			func(s *allStats) uint64 { return s.hub.Notified }),
		counter("notifications_confirmed", "Notifications confirmed by devices.",
			func(s *allStats) uint64 { return s.hub.Confirmed }),
		counter("notifications_refused", "Notifications refused.",
			func(s *allStats) uint64 { return s.hub.Refused }),
	}
}

func storeMetrics() []metric {
	return []metric{
		counter("store_commits", "Commits to the data file.",
			func(s *allStats) uint64 { return s.store.Commits }),
		counter("store_commits_failed", "Commits that failed.",
			func(s *allStats) uint64 { return s.store.Failed }),
		counter("store_enqueued", "Notifications written to disk.",
			func(s *allStats) uint64 { return s.store.Enqueued }),
		counter("store_confirmed", "Notifications removed because a device has them.",
			func(s *allStats) uint64 { return s.store.Confirmed }),
		counter("store_expired", "Notifications removed because their time was over.",
			func(s *allStats) uint64 { return s.store.Expired }),
		counter("store_dropped", "Notifications removed because a queue was full.",
			func(s *allStats) uint64 { return s.store.Dropped }),
		gauge("store_waiting", "Notifications that wait.",
			func(s *allStats) int { return s.store.Waiting }),
		gauge("store_file_bytes", "Size of the data file.",
			func(s *allStats) int { return int(s.store.FileSize) }),
	}
}

func bridgeMetrics() []metric {
	return []metric{
		gauge("sockets", "Open WebSockets, identified or not.",
			func(s *allStats) int { return s.bridge.Sockets }),
		gauge("app_sockets", "Apps that are connected over a WebSocket.",
			func(s *allStats) int { return s.bridge.Apps }),
		counter("app_updates_sent", "Presence, receipts and messages written to apps over a WebSocket.",
			func(s *allStats) uint64 { return s.bridge.Updates }),
		counter("sockets_accepted", "WebSockets accepted.",
			func(s *allStats) uint64 { return s.bridge.Accepted }),
		counter("sockets_refused", "WebSockets refused because their address had too many.",
			func(s *allStats) uint64 { return s.bridge.RefusedByAddress }),
		counter("logins_sent_away", "Devices told to come back because too many identified themselves at once.",
			func(s *allStats) uint64 { return s.bridge.SentAway }),
		counter("frames_received", "Frames from devices and apps.",
			func(s *allStats) uint64 { return s.bridge.FramesIn }),
		counter("frames_sent", "Frames to devices and apps.",
			func(s *allStats) uint64 { return s.bridge.FramesOut }),
		counter("notifications_sent", "Notifications written to devices, repeats included.",
			func(s *allStats) uint64 { return s.bridge.Notifications }),
		counter("pings", "Pings of silent peers.",
			func(s *allStats) uint64 { return s.bridge.Pings }),
		counter("ping_timeouts", "WebSockets closed because a ping was not answered.",
			func(s *allStats) uint64 { return s.bridge.Timeouts }),
		counters("device_errors", "Errors told over WebSockets, by errno.", "errno",
			func(s *allStats) map[int]uint64 { return byErrno(s.bridge.Errors) }),
	}
}

// byErrno makes the label a number: the errno of the wire.
func byErrno(m map[errno.Number]uint64) map[int]uint64 {
	n := make(map[int]uint64, len(m))
	for e, count := range m {
		n[int(e)] = count
	}
	return n
}

func xmppMetrics() []metric {
	return []metric{
		gauge("component_streams", "Connected components.",
			func(s *allStats) int { return s.xmpp.Sessions }),
		gauge("component_streams_waiting", "Component streams that have not shaken hands yet.",
			func(s *allStats) int { return s.xmpp.Waiting }),
		counter("component_streams_accepted", "Component streams accepted.",
			func(s *allStats) uint64 { return s.xmpp.Accepted }),
		counter("component_bytes_received", "Bytes from components.",
			func(s *allStats) uint64 { return s.xmpp.BytesIn }),
		counter("component_bytes_sent", "Bytes to components.",
			func(s *allStats) uint64 { return s.xmpp.BytesOut }),
		counter("component_stanzas_received", "Stanzas from components.",
			func(s *allStats) uint64 { return s.xmpp.StanzasIn }),
		counter("component_updates_sent", "Presence, consent and receipts written to components.",
			func(s *allStats) uint64 { return s.xmpp.UpdatesOut }),
		counter("component_answers_sent", "Answers to stanzas of components, errors included.",
			func(s *allStats) uint64 { return s.xmpp.Answers }),
		counters("component_streams_ended", "Component streams that ended, by why.", "reason",
			func(s *allStats) map[string]uint64 { return s.xmpp.Ended }),
		counters("component_stanzas_refused", "Stanzas that came back with an error, by why.", "reason",
			func(s *allStats) map[string]uint64 { return s.xmpp.Refused }),
	}
}

func ccsMetrics() []metric {
	return []metric{
		gauge("ccs_connections", "Connected CCS app servers.",
			func(s *allStats) int { return s.ccs.Sessions }),
		gauge("ccs_senders", "Apps with such a connection.",
			func(s *allStats) int { return s.ccs.Senders }),
		gauge("ccs_connections_waiting", "CCS connections that have not logged in yet.",
			func(s *allStats) int { return s.ccs.Waiting }),
		counter("ccs_connections_accepted", "CCS connections accepted.",
			func(s *allStats) uint64 { return s.ccs.Accepted }),
		counter("ccs_bytes_received", "Bytes from CCS app servers, decrypted.",
			func(s *allStats) uint64 { return s.ccs.BytesIn }),
		counter("ccs_bytes_sent", "Bytes to CCS app servers, before encryption.",
			func(s *allStats) uint64 { return s.ccs.BytesOut }),
		counter("ccs_messages_acked", "Messages of CCS app servers that were accepted.",
			func(s *allStats) uint64 { return s.ccs.Acked }),
		counters("ccs_messages_nacked", "Messages of CCS app servers that were refused, by code.", "code",
			func(s *allStats) map[string]uint64 { return s.ccs.Nacked }),
		counter("ccs_messages_malformed", "Messages of CCS app servers without an id to refuse them by.",
			func(s *allStats) uint64 { return s.ccs.Malformed }),
		counter("ccs_messages_repeated", "Messages sent again that had been accepted on a connection that broke.",
			func(s *allStats) uint64 { return s.ccs.Repeated }),
		counter("ccs_upstream_sent", "Messages of devices written to CCS app servers, repeats included.",
			func(s *allStats) uint64 { return s.ccs.Upstream }),
		counter("ccs_receipts_sent", "Receipts written to CCS app servers, repeats included.",
			func(s *allStats) uint64 { return s.ccs.Receipts }),
		counters("ccs_connections_ended", "CCS connections that ended, by why.", "reason",
			func(s *allStats) map[string]uint64 { return s.ccs.Ended }),
	}
}
