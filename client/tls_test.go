package client_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/client"
	"github.com/tanodb/tanodb/internal/server/pb"
	"github.com/tanodb/tanodb/kv"
)

// loopbackTLS is the configuration of a server on loopback, and of who trusts it.
func loopbackTLS(t *testing.T) (server, trusting *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: roots}
}

// A client says who it is on each connection, over TLS, and is refused what it may not do.
func TestUsers(t *testing.T) {
	n, err := tanodb.Open("", tanodb.Options{Storage: tanodb.MemoryStorage(), Partitions: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	for _, c := range []tanodb.SecurityChange{
		{Do: "add-user", Names: []string{"shop"}, Password: "right"},
		{Do: "add-source", Names: []string{"shop"}, CIDR: netip.MustParsePrefix("127.0.0.1/32"), Method: "password"},
		{Do: "grant", Names: []string{"shop"}, Permissions: []tanodb.Permission{tanodb.PermAdmin}, Any: true},
		{Do: "grant", Names: []string{"shop"}, Permissions: []tanodb.Permission{tanodb.PermGet, tanodb.PermPut}, Type: "default", Bucket: []byte(key.Bucket)},
		{Do: "enable"},
	} {
		if err := n.ChangeSecurity(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	server, trusting := loopbackTLS(t)
	address, _ := serve(t, n, pb.Options{Cluster: n, Properties: n, Data: n, Indexes: n, Gate: n, TLS: server})
	patient := client.Options{Addresses: []string{address}, DialTimeout: 20 * time.Second, TLS: trusting, User: "shop", Password: "right"}
	c := open(t, patient)
	if _, err := c.Put(t.Context(), key, value, kv.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), key, kv.ReadOptions{}); err != nil {
		t.Error(err)
	}
	// A delete that it may not make is certainly not made.
	if _, err := c.Delete(t.Context(), key, kv.WriteOptions{}); !errors.Is(err, client.ErrPermission) || errors.Is(err, kv.ErrInDoubt) {
		t.Errorf("a delete that it may not make: %v", err)
	}
	if _, err := c.Get(t.Context(), kv.Key{Bucket: "another", Name: "k"}, kv.ReadOptions{}); !errors.Is(err, client.ErrPermission) {
		t.Errorf("a get that it may not make: %v", err)
	}
	wrong := patient
	wrong.Password = "wrong"
	if _, err := open(t, wrong).Get(t.Context(), key, kv.ReadOptions{}); !errors.Is(err, client.ErrLogin) {
		t.Errorf("with a wrong password: %v", err)
	}
	for name, o := range map[string]client.Options{
		"plain":             {Addresses: patient.Addresses},
		"without a name":    {Addresses: patient.Addresses, TLS: trusting},
		"without its trust": {Addresses: patient.Addresses, User: "shop", Password: "right"},
	} {
		o.DialTimeout = patient.DialTimeout
		if _, err := open(t, o).Get(t.Context(), key, kv.ReadOptions{}); err == nil {
			t.Errorf("%s: it is served", name)
		}
	}
}
