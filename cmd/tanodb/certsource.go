package main

import (
	"crypto/tls"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/certs"
	"github.com/tanodb/tanodb/internal/config"
)

// openCerts reads the certificates of the configuration. Those of nodes and of clients
// are one source where they are the same files.
func (s *settings) openCerts(c *config.Config) error {
	open := func(f config.CertFiles) (*certs.Source, error) {
		if f.Cert == "" {
			return nil, nil
		}
		s.warnOfKey(f.Key)
		return certs.Open(certs.Files(f), s.log, nil)
	}
	var err error
	if s.nodes, err = open(c.NodeTLS()); err != nil {
		return err
	}
	if c.ClientTLS() == c.NodeTLS() {
		s.users = s.nodes
		return nil
	}
	s.users, err = open(c.ClientTLS())
	return err
}

// warnOfKey tells of a key that everybody on this machine may read.
func (s *settings) warnOfKey(path string) {
	info, err := os.Stat(path)
	if err != nil || runtime.GOOS == "windows" {
		return // who reads it says so
	}
	if mode := info.Mode().Perm(); mode&0o004 != 0 {
		s.log.Warn("whoever is on this machine may read this key, and be this node with it: chmod 600 it", "file", path, "mode", mode)
	}
}

// nodeTLS is the security between nodes; nil: none.
func (s *settings) nodeTLS() *tls.Config {
	if s.nodes == nil {
		return nil
	}
	return s.nodes.Nodes()
}

// clientTLS is that of clients' connections; nil: none.
func (s *settings) clientTLS() *tls.Config {
	if s.users == nil {
		return nil
	}
	return s.users.Clients()
}

// shown lists the certificates; nil: there are none.
func (s *settings) shown() func() []tanodb.Certificate {
	if s.nodes == nil && s.users == nil {
		return nil
	}
	return s.certificates
}

// certificates are all that the node goes by.
func (s *settings) certificates() []tanodb.Certificate {
	var all []tanodb.Certificate
	add := func(use string, from *certs.Source) {
		if from == nil {
			return
		}
		for _, i := range from.Infos() {
			all = append(all, tanodb.Certificate{Use: use, Kind: string(i.Kind), Name: i.Name, Path: i.Path, Ends: i.Ends, Warning: i.Warning})
		}
	}
	if s.nodes == s.users {
		add("nodes and clients", s.nodes)
		return all
	}
	add("nodes", s.nodes)
	add("clients", s.users)
	return all
}

// certMetrics say how long the certificates are still valid.
func (s *settings) certMetrics() prometheus.Gatherer {
	r := prometheus.NewRegistry()
	r.MustRegister(&certCollector{s.certificates})
	return r
}

// certCollector looks at the certificates when it is asked.
type certCollector struct{ list func() []tanodb.Certificate }

var certExpiry = prometheus.NewDesc("tanodb_certificate_expiry_seconds",
	"Seconds until a certificate that this node goes by expires; below 0: it has. The one of each use and kind that ends first.", []string{"use", "kind"}, nil)

// Describe implements prometheus.Collector.
func (c *certCollector) Describe(ch chan<- *prometheus.Desc) { ch <- certExpiry }

// Collect implements prometheus.Collector.
func (c *certCollector) Collect(ch chan<- prometheus.Metric) {
	first := map[[2]string]time.Time{}
	for _, x := range c.list() {
		k := [2]string{x.Use, x.Kind}
		if t, ok := first[k]; !ok || x.Ends.Before(t) {
			first[k] = x.Ends
		}
	}
	for k, ends := range first {
		ch <- prometheus.MustNewConstMetric(certExpiry, prometheus.GaugeValue, time.Until(ends).Seconds(), k[0], k[1])
	}
}

// audit is the log of what users who administer do, of deletes and of who is refused.
func (s *settings) audit() *slog.Logger { return s.log.With("audit", true) }
