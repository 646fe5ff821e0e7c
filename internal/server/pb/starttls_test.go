package pb

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/tanodb/tanodb/internal/server/riakpb"
)

// riakErrorPlain is what a plain connection is told, as Riak tells it.
const riakErrorPlain = "Security is enabled, please STARTTLS first"

// secured are options with TLS, and the configuration of a client that trusts it.
func secured(t *testing.T) (Options, *tls.Config) {
	t.Helper()
	pair, leaf := selfSigned(t)
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return Options{TLS: &tls.Config{Certificates: []tls.Certificate{pair}}}, &tls.Config{RootCAs: roots, ServerName: "localhost"}
}

// over is the client over TLS from now on.
func (c *client) over(conf *tls.Config) *client {
	c.Helper()
	s := tls.Client(c.Conn, conf)
	if err := s.HandshakeContext(c.Context()); err != nil {
		c.Fatal(err)
	}
	return &client{TB: c.TB, Conn: s}
}

func TestStartTLS(t *testing.T) {
	o, conf := secured(t)
	c := dial(t, &fake{}, o)
	for range 2 { // a refusal is not the end
		c.fails(riakpb.PingReq, nil, riakErrorPlain)
		c.fails(riakpb.GetReq, getOf("k"), riakErrorPlain)
		c.fails(99, nil, riakErrorPlain)
	}
	c.ask(riakpb.StartTLS, nil, riakpb.StartTLS, nil)
	s := c.over(conf)
	s.alive()
	s.ask(riakpb.PutReq, putOf("k", string(make([]byte, largeValue+5))), riakpb.PutResp, &riakpb.RpbPutResp{})
	var r riakpb.RpbGetResp
	s.ask(riakpb.GetReq, getOf("k"), riakpb.GetResp, &r)
	if len(r.Content) != 1 || len(r.Content[0].Value) != largeValue+5 {
		t.Errorf("%d values", len(r.Content))
	}
	s.fails(riakpb.StartTLS, nil, "the connection is secure already")
	s.alive()
}

// A connection may begin with TLS: nobody on the way can talk a client out of it.
func TestTLSFromTheFirstByte(t *testing.T) {
	o, conf := secured(t)
	dial(t, &fake{}, o).over(conf).alive()
}

func TestNoTLSWithoutACertificate(t *testing.T) {
	c := dial(t, &fake{}, Options{})
	c.fails(riakpb.StartTLS, nil, noSecurity)
	c.alive()
}

// Who puts a request between STARTTLS and its answer is not served it within TLS.
func TestNothingIsSmuggledIntoTLS(t *testing.T) {
	o, _ := secured(t)
	c := dial(t, &fake{}, o)
	c.send(append(frameOf(t, riakpb.StartTLS, nil), frameOf(t, riakpb.PutReq, putOf("k", "evil"))...))
	c.ended()
}

// A handshake that does not come to an end is one slow request.
func TestHandshakesEnd(t *testing.T) {
	o, _ := secured(t)
	o.ReadGrace = 50 * time.Millisecond
	for _, first := range [][]byte{{firstOfTLS}, {firstOfTLS, 3, 1, 0, 200}, []byte("\x16this is no TLS at all, whatever it is"), frameOf(t, riakpb.StartTLS, nil)} {
		c := dial(t, &fake{}, o)
		c.send(first)
		if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q: %v", first, err)
		}
	}
}

// selfSigned is a certificate of this machine.
func selfSigned(t *testing.T) (tls.Certificate, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, leaf
}
