package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const year = 365 * 24 * time.Hour

func authority(t *testing.T, name string) *Authority {
	t.Helper()
	a, err := NewAuthority(name, time.Now(), 10*year)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func parse(t *testing.T, p Pair) *x509.Certificate {
	t.Helper()
	all, err := ParseAll(p.Cert)
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

// A node's certificate is good for both directions and its hosts; a user's for asking.
func TestKindsAreHeldApart(t *testing.T) {
	a := authority(t, "ca")
	node, err := a.Node("n1", []string{"10.0.0.1", "n1.example"}, time.Now(), year)
	if err != nil {
		t.Fatal(err)
	}
	user, err := a.Client("alice", time.Now(), 100*year)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.Cert)
	good := func(p Pair, use x509.ExtKeyUsage, host string) bool {
		_, err := parse(t, p).Verify(x509.VerifyOptions{Roots: roots, DNSName: host, KeyUsages: []x509.ExtKeyUsage{use}})
		return err == nil
	}
	for host, want := range map[string]bool{"10.0.0.1": true, "n1.example": true, "localhost": true, "127.0.0.1": true, "10.0.0.2": false, "n1": false} {
		if good(node, x509.ExtKeyUsageServerAuth, host) != want {
			t.Errorf("good for %s is not %t", host, want)
		}
	}
	if !good(node, x509.ExtKeyUsageClientAuth, "") || !good(user, x509.ExtKeyUsageClientAuth, "") || good(user, x509.ExtKeyUsageServerAuth, "") {
		t.Error("a certificate is good for something else than it is for")
	}
	if n, u, c := kindOf(parse(t, node)), kindOf(parse(t, user)), kindOf(a.Cert); n != KindNode || u != KindClient || c != KindCA {
		t.Errorf("kinds %s %s %s", n, u, c)
	}
	if ends := parse(t, user).NotAfter; ends.After(a.Cert.NotAfter) {
		t.Errorf("it outlives its authority: %v", ends)
	}
	// What was signed by one cannot sign.
	if _, err := ParseAuthority(node); err == nil {
		t.Error("a node's certificate is taken for an authority")
	}
}

func TestRefusedNames(t *testing.T) {
	a := authority(t, "ca")
	for _, hosts := range [][]string{nil, {""}, {"0.0.0.0"}, {"::"}, {"h:1"}, {"[::1]:1"}, {"a b"}, {"ñ.example"}, {"http//x"}, {"a,b"}, make([]string, maxHosts+1)} {
		if _, err := a.Node("n1", hosts, time.Now(), year); err == nil {
			t.Errorf("hosts %q", hosts)
		}
	}
	for _, name := range []string{"", strings.Repeat("x", maxName+1)} {
		if _, err := a.Client(name, time.Now(), year); err == nil {
			t.Errorf("a name of %d bytes", len(name))
		}
	}
	if _, err := a.Client("late", time.Now().Add(11*year), year); err == nil {
		t.Error("an expired authority signs")
	}
}

func TestAuthorityIsReadAgain(t *testing.T) {
	a, b := authority(t, "a"), authority(t, "b")
	pa, err := a.Pair()
	if err != nil {
		t.Fatal(err)
	}
	pb, err := b.Pair()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseAuthority(pa); err != nil || !got.Cert.Equal(a.Cert) {
		t.Errorf("error %v", err)
	}
	for _, bad := range []Pair{{pa.Cert, pb.Key}, {pb.Key, pa.Key}, {pa.Cert, pa.Cert}, {nil, nil}, {pa.Cert, []byte("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n")}} {
		if _, err := ParseAuthority(bad); err == nil {
			t.Errorf("%.40q and %.40q are taken", bad.Cert, bad.Key)
		}
	}
}

func TestWarnings(t *testing.T) {
	c := authority(t, "ca").Cert
	for at, want := range map[time.Time]string{
		c.NotBefore.Add(-time.Second):             "not valid yet",
		c.NotAfter:                                "expired",
		c.NotAfter.Add(-WarnBefore + time.Second): "expires in 29 days",
		c.NotAfter.Add(-WarnBefore - time.Second): "",
	} {
		got := Describe("f", c, at).Warning
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%v: %q, want %q", at, got, want)
		}
	}
}

// dir writes a node's directory and returns its files.
func (a *Authority) dir(t *testing.T, dir string, p Pair, trusted ...*Authority) Files {
	t.Helper()
	f := Files{filepath.Join(dir, "node.crt"), filepath.Join(dir, "node.key"), filepath.Join(dir, "ca.crt")}
	var cas []byte
	for _, c := range trusted {
		pair, err := c.Pair()
		if err != nil {
			t.Fatal(err)
		}
		cas = append(cas, pair.Cert...)
	}
	for path, data := range map[string][]byte{f.Cert: p.Cert, f.Key: p.Key, f.CA: cas} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// clock goes when it is told to.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { c.at = c.at.Add(2 * lookEvery); return c.at }

// What is in the files is used when it changes, and kept when it breaks.
func TestRotation(t *testing.T) {
	a, b := authority(t, "a"), authority(t, "b")
	dir := t.TempDir()
	first, err := a.Node("first", []string{"h"}, time.Now(), year)
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.Node("second, which is longer", []string{"h"}, time.Now(), year)
	if err != nil {
		t.Fatal(err)
	}
	f := a.dir(t, dir, first, a)
	var logs bytes.Buffer
	c := &clock{time.Now()}
	s, err := Open(f, slog.New(slog.NewTextHandler(&logs, nil)), c.now)
	if err != nil {
		t.Fatal(err)
	}
	nodes, clients := s.Nodes(), s.Clients()
	uses := func(want string) {
		t.Helper()
		for _, conf := range []*tls.Config{nodes, clients} {
			now, err := conf.GetConfigForClient(nil)
			if err != nil || now.Certificates[0].Leaf.Subject.CommonName != want {
				t.Errorf("%v, error %v, want %s", now.Certificates[0].Leaf.Subject, err, want)
			}
		}
	}
	uses("first")
	if err := os.WriteFile(f.Cert, second.Cert, 0o600); err != nil { // its key is not there yet
		t.Fatal(err)
	}
	uses("first")
	b.dir(t, dir, second, a, b)
	uses("second, which is longer")
	if n := len(s.Infos()); n != 3 {
		t.Errorf("%d certificates", n)
	}
	if err := os.Remove(f.CA); err != nil {
		t.Fatal(err)
	}
	uses("second, which is longer")
	if text := logs.String(); strings.Count(text, "cannot be used") != 2 || strings.Count(text, "used from now on") != 1 || strings.Contains(text, "PRIVATE") {
		t.Error(text)
	}
}

// A client may come without a certificate, or with one that the authority vouches for.
func TestClientsMayShowCertificates(t *testing.T) {
	a, other := authority(t, "a"), authority(t, "b")
	node, err := a.Node("n1", []string{"127.0.0.1"}, time.Now(), year)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(a.dir(t, t.TempDir(), node, a), slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.Cert)
	// Greet returns who the server takes the client for.
	greet := func(by *Authority, most uint16) (string, error) {
		conf := &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MaxVersion: most}
		if by != nil {
			p, err := by.Client("alice", time.Now(), year)
			if err != nil {
				t.Fatal(err)
			}
			pair, err := tls.X509KeyPair(p.Cert, p.Key)
			if err != nil {
				t.Fatal(err)
			}
			conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		server := tls.Server(far, s.Clients())
		done := make(chan error, 1)
		go func() {
			defer near.Close()
			c := tls.Client(near, conf)
			err := c.HandshakeContext(t.Context())
			if err == nil {
				_, _ = c.Read(make([]byte, 1)) // the alert of the server, if any
			}
			done <- err
		}()
		err := server.HandshakeContext(t.Context())
		name := ""
		if err == nil && len(server.ConnectionState().VerifiedChains) > 0 {
			name = server.ConnectionState().PeerCertificates[0].Subject.CommonName
		}
		_ = far.Close()
		<-done
		return name, err
	}
	if name, err := greet(nil, 0); name != "" || err != nil {
		t.Errorf("without a certificate: %q, %v", name, err)
	}
	if name, err := greet(a, 0); name != "alice" || err != nil {
		t.Errorf("with one: %q, %v", name, err)
	}
	if name, err := greet(other, 0); err == nil {
		t.Errorf("with one of a stranger: %q", name)
	}
	if _, err := greet(nil, tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
}

func TestFilesThatAreNone(t *testing.T) {
	a, b := authority(t, "a"), authority(t, "b")
	p, err := a.Node("n", []string{"h"}, time.Now(), year)
	if err != nil {
		t.Fatal(err)
	}
	q, err := b.Node("n", []string{"h"}, time.Now(), year)
	if err != nil {
		t.Fatal(err)
	}
	good := a.dir(t, t.TempDir(), p, a)
	for name, f := range map[string]Files{
		"no file":      {good.Cert, good.Key, good.CA + "x"},
		"no key":       {good.Cert, good.Key + "x", good.CA},
		"another key":  a.dir(t, t.TempDir(), Pair{p.Cert, q.Key}, a),
		"no authority": a.dir(t, t.TempDir(), p),
		"a key as one": {good.Cert, good.Key, good.Key},
		"no directory": {good.Cert + "/x", good.Key, good.CA},
	} {
		_, err := Open(f, slog.New(slog.DiscardHandler), nil)
		if err == nil || strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
