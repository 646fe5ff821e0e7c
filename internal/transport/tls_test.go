package transport

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  ed25519.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

// config is that of a node whose certificate is signed by a, valid until some
// time, and which trusts the authorities given.
func (a *authority) config(t *testing.T, until time.Time, trusted ...*authority) *tls.Config {
	t.Helper()
	return a.configFor(t, until, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, trusted...)
}

// configFor is the same with a certificate for these uses.
func (a *authority) configFor(t *testing.T, until time.Time, uses []x509.ExtKeyUsage, trusted ...*authority) *tls.Config {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "node"},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: uses,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	for _, c := range trusted {
		roots.AddCert(c.cert)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, RootCAs: roots}
}

// Nodes that can show each other a certificate of their authority talk.
func TestTLS(t *testing.T) {
	ca := newAuthority(t)
	c := Config{Timing: quick, TLS: ca.config(t, time.Now().Add(time.Hour), ca)}
	p := pairIn(t, networks[0].open(), c, echo)
	p.connect(t)
	if o := await(t, ask(t, p.a, "n2", Requests, fetch("k"), patience)); o.err != nil {
		t.Error(o.err)
	}
}

// A node that cannot show one is refused, and so is one that shows a wrong
// one: n1 in each row, by n2, which is as it should be.
func TestTLSRefuses(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	later, before := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	oneSided := func() *tls.Config {
		c := ca.config(t, later, ca)
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
		return c
	}
	tests := map[string]struct {
		tls  *tls.Config
		want string // what n1 is told
	}{
		"plain TCP to a TLS port": {nil, ""},
		"no certificate":          {oneSided(), "certificate"},
		"of another authority":    {other.config(t, later, ca, other), "certificate"},
		"expired":                 {ca.config(t, before, ca), "certificate"},
		"a server not trusted":    {ca.config(t, later, other), "certificate"},
		"a user's":                {ca.configFor(t, later, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, ca), "certificate"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			j := networks[0].open()
			ra, rb := newRecorder(silent), newRecorder(silent)
			member(t, j, "n2", Config{Timing: quick, Handler: rb, TLS: ca.config(t, later, ca)})
			member(t, j, "n1", Config{Timing: quick, Handler: ra, TLS: tt.tls})
			ra.await(t, "n1 is told why", func() bool {
				for _, err := range ra.refused["n2"] {
					if strings.Contains(err.Error(), "node n2 at ") && strings.Contains(err.Error(), tt.want) {
						return true
					}
				}
				return false
			})
			if ra.heard["n2"] > 0 {
				t.Error("n2 counts as heard")
			}
		})
	}
}

// A peer that is good no longer loses the connections that it has, and gets no others; of both
// directions, since n1 looks alone.
func TestTLSEndsWhatIsGoodNoLonger(t *testing.T) {
	ca := newAuthority(t)
	good, later := atomic.Bool{}, time.Now().Add(time.Hour)
	good.Store(true)
	looks := ca.config(t, later, ca)
	looks.VerifyConnection = func(tls.ConnectionState) error {
		if good.Load() {
			return nil
		}
		return errors.New("it is good no longer")
	}
	j := networks[0].open()
	ra, rb := newRecorder(echo), newRecorder(echo)
	member(t, j, "n1", Config{Timing: quick, Handler: ra, TLS: looks})
	n2 := member(t, j, "n2", Config{Timing: quick, Handler: rb, TLS: ca.config(t, later, ca)})
	for _, r := range []*recorder{ra, rb} {
		r.await(t, "both are connected", func() bool { return len(r.heard) > 0 })
	}
	good.Store(false)
	rb.await(t, "n2 is refused", func() bool { return len(rb.refused["n1"]) > 0 })
	ra.await(t, "n1 says why", func() bool {
		return slices.ContainsFunc(ra.refused["n2"], func(err error) bool { return strings.Contains(err.Error(), "good no longer") })
	})
	if o := await(t, ask(t, n2, "n1", Requests, fetch("k"), patience)); o.err == nil {
		t.Error("n1 is asked")
	}
}

// A configuration that would leave one side unchecked is refused.
func TestTLSConfigErrors(t *testing.T) {
	ca := newAuthority(t)
	good := ca.config(t, time.Now().Add(time.Hour), ca)
	tests := map[string]struct {
		tls  *tls.Config
		want string
	}{
		"no certificate": {&tls.Config{RootCAs: good.RootCAs}, "needs a certificate"},
		"no authority":   {&tls.Config{Certificates: good.Certificates}, "needs the RootCAs"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Listen(Config{Self: "n1", Listen: "127.0.0.1:0", Handler: newRecorder(silent), TLS: tt.tls})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v; want one with %q", err, tt.want)
			}
		})
	}
}

// A certificate that changes is used by the next connection, in both directions, and the
// rule that it is a node's holds for it too.
func TestTLSChanges(t *testing.T) {
	old, ca := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	renewing := func(now *tls.Config) *tls.Config {
		c := old.config(t, later, old)
		c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return now, nil }
		return c
	}
	c := Config{Timing: quick, TLS: renewing(ca.config(t, later, ca))}
	p := pairIn(t, networks[0].open(), c, echo)
	p.connect(t)
	if o := await(t, ask(t, p.a, "n2", Requests, fetch("k"), patience)); o.err != nil {
		t.Error(o.err)
	}
	j := networks[0].open()
	ra, rb := newRecorder(silent), newRecorder(silent)
	user := ca.configFor(t, later, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, ca)
	member(t, j, "n2", Config{Timing: quick, Handler: rb, TLS: renewing(ca.config(t, later, ca))})
	member(t, j, "n1", Config{Timing: quick, Handler: ra, TLS: user})
	ra.await(t, "a user is refused", func() bool { return len(ra.refused["n2"]) > 0 })
	if ra.heard["n2"] > 0 {
		t.Error("n2 counts as heard")
	}
}
