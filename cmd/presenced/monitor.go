package main

import (
	"fmt"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// monitor is the admin listener: health, metrics and profiles.
func (g *gateway) monitor() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", g.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(g.registry(), promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// readyz says whether new devices and apps are welcome.
func (g *gateway) readyz(w http.ResponseWriter, _ *http.Request) {
	switch st := g.store.Stats(); {
	case g.draining.Load():
		http.Error(w, "going away", http.StatusServiceUnavailable)
	case st.Stopped != nil || st.Failing != nil:
		http.Error(w, "storage not available", http.StatusServiceUnavailable)
	default:
		fmt.Fprintln(w, "ok")
	}
}

// registry holds this gateway's metrics and those of the Go runtime.
func (g *gateway) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newStatsCollector(g.metrics()),
	)
	return r
}

// metric is one number of a Stats struct, or with a label several. Labels are words of this program: an e-mail,
// a PUID or a device never appears in one.
type metric struct {
	name, help string
	kind       prometheus.ValueType
	label      string // "": one number
	read       func(s *allStats, emit func(value float64, label ...string))
}

func gauge(name, help string, read func(*allStats) int) metric {
	return metric{name: "presenced_" + name, help: help, kind: prometheus.GaugeValue,
		read: func(s *allStats, emit func(float64, ...string)) { emit(float64(read(s))) }}
}

func counter(name, help string, read func(*allStats) uint64) metric {
	return metric{name: "presenced_" + name + "_total", help: help, kind: prometheus.CounterValue,
		read: func(s *allStats, emit func(float64, ...string)) { emit(float64(read(s))) }}
}

// counters are those of one name that a label tells apart.
func counters[K comparable](name, help, label string, read func(*allStats) map[K]uint64) metric {
	return metric{name: "presenced_" + name + "_total", help: help, kind: prometheus.CounterValue, label: label,
		read: func(s *allStats, emit func(float64, ...string)) {
			for k, n := range read(s) {
				emit(float64(n), fmt.Sprint(k))
			}
		}}
}

// statsCollector reads all Stats once for each scrape.
type statsCollector struct {
	read    func() *allStats
	metrics []metric
	descs   []*prometheus.Desc
}

func newStatsCollector(read func() *allStats, metrics []metric) *statsCollector {
	c := &statsCollector{read: read, metrics: metrics}
	for _, m := range metrics {
		var labels []string
		if m.label != "" {
			labels = []string{m.label}
		}
		c.descs = append(c.descs, prometheus.NewDesc(m.name, m.help, labels, nil))
	}
	return c
}

// Describe is part of prometheus.Collector.
func (c *statsCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect is part of prometheus.Collector.
func (c *statsCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.read()
	for i, m := range c.metrics {
		m.read(s, func(v float64, label ...string) {
			ch <- prometheus.MustNewConstMetric(c.descs[i], m.kind, v, label...)
		})
	}
}
