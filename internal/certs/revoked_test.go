package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
)

func revoke(t *testing.T, a *Authority, text []byte, more ...*x509.Certificate) []byte {
	t.Helper()
	text, err := a.Revoke(text, more, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func client(t *testing.T, a *Authority, name string) *x509.Certificate {
	t.Helper()
	p, err := a.Client(name, time.Now(), year)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, p)
}

// A list grows, holds of one authority alone even where another has the same name, and
// is believed only as its authority has signed it.
func TestRevoked(t *testing.T) {
	a, b := authority(t, "ca"), authority(t, "ca")
	alice, bob, again := client(t, a, "alice"), client(t, a, "bob"), client(t, a, "alice")
	one := revoke(t, a, nil, alice)
	two := revoke(t, a, one, bob, alice)
	for name, c := range map[string]struct {
		text []byte
		by   []*x509.Certificate
		want []bool // alice, bob, alice's next one
	}{
		"one":                {one, []*x509.Certificate{a.Cert}, []bool{true, false, false}},
		"two":                {two, []*x509.Certificate{b.Cert, a.Cert}, []bool{true, true, false}},
		"of another":         {two, []*x509.Certificate{b.Cert}, []bool{false, false, false}},
		"two lists":          {append(revoke(t, b, nil), one...), []*x509.Certificate{a.Cert, b.Cert}, []bool{true, false, false}},
		"nothing is revoked": {revoke(t, a, nil), []*x509.Certificate{a.Cert}, []bool{false, false, false}},
	} {
		r, err := ParseRevoked(c.text, c.by)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i, x := range []*x509.Certificate{alice, bob, again} {
			if r.Has(x) != c.want[i] {
				t.Errorf("%s: certificate %d of %s is revoked: %t", name, i, x.Subject.CommonName, r.Has(x))
			}
		}
	}
	if _, err := a.Revoke(nil, []*x509.Certificate{client(t, b, "eve")}, time.Now()); err == nil {
		t.Error("it revokes what another has signed")
	}
	if _, err := a.Revoke([]byte("x"), nil, time.Now()); err == nil {
		t.Error("a list that is none is replaced")
	}
	forged := bytes.Clone(one)
	at := bytes.LastIndexByte(bytes.TrimRight(forged, "\n"), '\n') - 10 // in the signature
	forged[at] ^= 1
	for name, text := range map[string][]byte{"forged": forged, "nothing": nil, "a certificate": mustPair(t, a).Cert, "large": make([]byte, maxRevokedBytes+1)} {
		if _, err := ParseRevoked(text, []*x509.Certificate{a.Cert}); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func mustPair(t *testing.T, a *Authority) Pair {
	t.Helper()
	p, err := a.Pair()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A list that comes, grows, breaks or goes is followed while a node runs, and nothing that was
// revoked is good again by that.
func TestRevokedIsFollowed(t *testing.T) {
	a := authority(t, "a")
	p, err := a.Node("n", []string{"h"}, time.Now(), year)
	if err != nil {
		t.Fatal(err)
	}
	f := a.dir(t, t.TempDir(), p, a)
	var logs bytes.Buffer
	s, err := Open(f, slog.New(slog.NewTextHandler(&logs, nil)), (&clock{time.Now()}).now)
	if err != nil {
		t.Fatal(err)
	}
	alice, bob := client(t, a, "alice"), client(t, a, "bob")
	write := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(RevokedFile(f.CA), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(when string, want ...bool) {
		t.Helper()
		for i, x := range []*x509.Certificate{alice, bob, s.held.pair.Leaf} {
			state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{x}}
			for _, c := range []*tls.Config{s.Nodes(), s.Clients()} {
				fresh, err := c.GetConfigForClient(nil)
				if err != nil {
					t.Fatal(err)
				}
				for _, verify := range []func(tls.ConnectionState) error{c.VerifyConnection, fresh.VerifyConnection} {
					if err := verify(state); errors.Is(err, ErrRevoked) != want[i] {
						t.Errorf("%s: certificate of %s: %v", when, x.Subject.CommonName, err)
					}
				}
			}
		}
	}
	refused("without a list", false, false, false)
	one := revoke(t, a, nil, alice)
	write(one)
	refused("one", true, false, false)
	write([]byte("this is none"))
	refused("broken", true, false, false)
	if err := os.Remove(RevokedFile(f.CA)); err != nil {
		t.Fatal(err)
	}
	refused("gone", true, false, false)
	write(revoke(t, a, one, bob, s.held.pair.Leaf))
	refused("three", true, true, true)
	if w := s.Infos()[0].Warning; !strings.Contains(w, "revoked") {
		t.Errorf("its own certificate is revoked: %q", w)
	}
	if text := logs.String(); !strings.Contains(text, "cannot use the list") || !strings.Contains(text, "is gone") || !strings.Contains(text, "revoked=3") {
		t.Error(text)
	}
	write([]byte("this is none"))
	if _, err := Open(f, slog.New(slog.DiscardHandler), nil); err == nil {
		t.Error("a node starts with a list that it cannot read")
	}
}

// Whatever is in the file, it is read or refused, and nothing of another authority is revoked.
func FuzzParseRevoked(f *testing.F) {
	a, err := NewAuthority("ca", time.Now(), year)
	if err != nil {
		f.Fatal(err)
	}
	list, err := a.Revoke(nil, nil, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(list)
	f.Add([]byte("-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseRevoked(text, []*x509.Certificate{a.Cert})
		if err == nil && r.count() != 0 {
			t.Error("something is revoked, and nobody has signed it")
		}
	})
}
