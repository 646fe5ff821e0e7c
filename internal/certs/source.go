package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// lookEvery is how often files are looked at, at most: a connection that is made later
// uses what they hold.
const lookEvery = time.Second

// Files are where a node's certificate is. CA may be empty: nobody is trusted. What it has
// revoked is in RevokedFile(CA), if that is there.
type Files struct{ Cert, Key, CA string }

// Source has what files hold, and reads them again when they have changed: no restart
// is needed for a new certificate, or for another authority beside the old one. What
// cannot be used changes nothing.
type Source struct {
	files Files
	log   *slog.Logger
	now   func() time.Time

	mu     sync.Mutex
	looked time.Time
	stamps [4]stamp
	held   *held
}

// held is what the files have held. It is never changed.
type held struct {
	pair  tls.Certificate
	pool  *x509.CertPool // nil: there is no CA
	infos []*x509.Certificate
	paths []string

	revoked *Revoked
}

// stamp tells whether a file has changed.
type stamp struct {
	changed time.Time
	size    int64
}

// Open reads the files. Changes and what is wrong with them later are logged. Now is
// the clock; nil: that of the system.
func Open(f Files, log *slog.Logger, now func() time.Time) (*Source, error) {
	if now == nil {
		now = time.Now
	}
	s := &Source{files: f, log: log, now: now, looked: now()}
	var err error
	s.stamps = s.look() // before they are read: a change meanwhile is seen the next time
	s.held, err = s.read()
	return s, err
}

func (s *Source) look() (all [4]stamp) {
	for i, path := range []string{s.files.Cert, s.files.Key, s.files.CA, RevokedFile(s.files.CA)} {
		if path == "" {
			continue
		}
		if info, err := os.Stat(path); err == nil {
			all[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return all
}

func (s *Source) read() (*held, error) {
	cert, err := os.ReadFile(s.files.Cert)
	if err != nil {
		return nil, fmt.Errorf("cannot read the certificate: %w", err)
	}
	key, err := os.ReadFile(s.files.Key)
	if err != nil {
		return nil, fmt.Errorf("cannot read the key of the certificate: %w", err)
	}
	h := &held{}
	if h.pair, err = tls.X509KeyPair(cert, key); err != nil {
		return nil, fmt.Errorf("cannot use the certificate %s: %w", s.files.Cert, err)
	}
	h.infos, h.paths = append(h.infos, h.pair.Leaf), append(h.paths, s.files.Cert)
	if s.files.CA == "" {
		return h, nil
	}
	text, err := os.ReadFile(s.files.CA)
	if err != nil {
		return nil, fmt.Errorf("cannot read the authorities: %w", err)
	}
	all, err := ParseAll(text)
	if err != nil {
		return nil, fmt.Errorf("cannot use the authorities in %s: %w", s.files.CA, err)
	}
	h.pool = x509.NewCertPool()
	for _, c := range all {
		h.pool.AddCert(c)
		h.infos, h.paths = append(h.infos, c), append(h.paths, s.files.CA)
	}
	h.revoked, err = s.readRevoked(all)
	return h, err
}

// readRevoked reads what the authorities have revoked. A file that is gone takes nothing
// back while the node runs: it may be missing for a moment, or because somebody wants that.
func (s *Source) readRevoked(by []*x509.Certificate) (*Revoked, error) {
	path := RevokedFile(s.files.CA)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if s.held == nil || s.held.revoked == nil {
			return nil, nil
		}
		s.log.Warn("the list of revoked certificates is gone; what it had stays revoked until the next start", "file", path)
		return s.held.revoked, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the list of revoked certificates: %w", err)
	}
	r, err := ParseRevoked(text, by)
	if err != nil {
		return nil, fmt.Errorf("cannot use the list of revoked certificates %s: %w", path, err)
	}
	return r, nil
}

// current is what the files hold now.
func (s *Source) current() *held {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if since := now.Sub(s.looked); since >= 0 && since < lookEvery {
		return s.held
	}
	s.looked = now
	stamps := s.look()
	if stamps == s.stamps {
		return s.held
	}
	s.stamps = stamps
	h, err := s.read()
	if err != nil {
		s.log.Warn("the certificate has changed and cannot be used; the one before stays", "file", s.files.Cert, "error", err)
		return s.held
	}
	s.held = h
	s.log.Info("the certificate has changed and is used from now on", "file", s.files.Cert, "ends", h.pair.Leaf.NotAfter.UTC().Format(time.RFC3339), "revoked", h.revoked.count())
	return h
}

// check is ErrRevoked if the other side of a connection, be it open already, has shown a
// certificate that is revoked by now.
func (s *Source) check(state tls.ConnectionState) error { return s.current().revoked.Check(state) }

// Nodes secures connections between nodes; see tanodb.Options.TLS.
func (s *Source) Nodes() *tls.Config {
	fresh := func() *tls.Config {
		h := s.current()
		return &tls.Config{
			Certificates: []tls.Certificate{h.pair},
			RootCAs:      h.pool,
			ClientCAs:    h.pool,
			ClientAuth:   tls.RequireAndVerifyClientCert,
			MinVersion:   tls.VersionTLS13,

			VerifyConnection: s.check,
		}
	}
	c := fresh()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return fresh(), nil }
	return c
}

// Clients secures connections of clients, who may show a certificate if there is an
// authority that vouches for them.
func (s *Source) Clients() *tls.Config {
	fresh := func() *tls.Config {
		h := s.current()
		c := &tls.Config{Certificates: []tls.Certificate{h.pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, VerifyConnection: s.check}
		if h.pool != nil {
			c.ClientCAs, c.ClientAuth = h.pool, tls.VerifyClientCertIfGiven
		}
		return c
	}
	c := fresh()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return fresh(), nil }
	return c
}

// Infos are those of the certificates that are used.
func (s *Source) Infos() []Info {
	h := s.current()
	now := s.now()
	all := make([]Info, len(h.infos))
	for i, c := range h.infos {
		all[i] = Describe(h.paths[i], c, now)
		all[i].Mark(c, h.revoked)
	}
	return all
}
