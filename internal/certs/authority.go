package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
	"unicode"
)

// The limits of what is put into a certificate.
const (
	maxName  = 255 // bytes of a node's or user's name
	maxHosts = 64
	backdate = 5 * time.Minute // how far a clock may be behind the one that has signed
)

// Authority signs certificates.
type Authority struct {
	Cert *x509.Certificate
	key  crypto.Signer
}

// Pair is a certificate and its key, both PEM.
type Pair struct{ Cert, Key []byte }

// NewAuthority makes an authority that is valid from a time on.
func NewAuthority(name string, from time.Time, life time.Duration) (*Authority, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := template(name, from, from.Add(life))
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero = true, true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &Authority{cert, key}, err
}

// Pair is the authority itself.
func (a *Authority) Pair() (Pair, error) { return pairOf(a.Cert.Raw, a.key) }

// Node signs for a node that others reach at these hosts, names or addresses. It is
// also valid for the node's own machine.
func (a *Authority) Node(name string, hosts []string, from time.Time, life time.Duration) (Pair, error) {
	if len(hosts) == 0 || len(hosts) > maxHosts {
		return Pair{}, fmt.Errorf("a node needs 1 to %d hosts at which others reach it", maxHosts)
	}
	t := template(name, from, from.Add(life))
	all := append(slices.Clone(hosts), "localhost", "127.0.0.1", "::1")
	for i, h := range all {
		if slices.Contains(all[:i], h) {
			continue
		}
		if err := addHost(t, h); err != nil {
			return Pair{}, err
		}
	}
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	return a.sign(name, t)
}

// Client signs for a user.
func (a *Authority) Client(user string, from time.Time, life time.Duration) (Pair, error) {
	t := template(user, from, from.Add(life))
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.sign(user, t)
}

// sign makes a key and has its certificate signed. No certificate outlives its authority.
func (a *Authority) sign(name string, t *x509.Certificate) (Pair, error) {
	if err := checkName(name); err != nil {
		return Pair{}, err
	}
	if t.NotAfter.After(a.Cert.NotAfter) {
		t.NotAfter = a.Cert.NotAfter
	}
	if !t.NotBefore.Before(t.NotAfter) {
		return Pair{}, errors.New("the authority has expired: make another one")
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.Cert, key.Public(), a.key)
	if err != nil {
		return Pair{}, err
	}
	return pairOf(der, key)
}

func template(name string, from, to time.Time) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotBefore: from.Add(-backdate), NotAfter: to}
}

func addHost(t *x509.Certificate, host string) error {
	if ip := net.ParseIP(host); ip != nil {
		if ip.IsUnspecified() {
			return fmt.Errorf("%s is no address at which a node is reached", host)
		}
		t.IPAddresses = append(t.IPAddresses, ip)
		return nil
	}
	if _, _, err := net.SplitHostPort(host); err == nil {
		return fmt.Errorf("%q has a port; a host is a name or an address alone", host)
	}
	if host == "" || len(host) > 253 || strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII || r <= ' ' || strings.ContainsRune(",/@[]", r) }) {
		return fmt.Errorf("%q is no host", host)
	}
	t.DNSNames = append(t.DNSNames, host)
	return nil
}

func checkName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("the name must have 1 to %d bytes", maxName)
	}
	return nil
}

func pairOf(der []byte, key crypto.Signer) (Pair, error) {
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
	}, nil
}

// ParseAuthority reads an authority and its key.
func ParseAuthority(p Pair) (*Authority, error) {
	all, err := ParseAll(p.Cert)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(p.Key)
	if block == nil {
		return nil, errors.New("the key of the authority is not PEM")
	}
	secret, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the key of the authority cannot be read")
	}
	key, ok := secret.(crypto.Signer)
	if !ok || !all[0].IsCA {
		return nil, errors.New("it is not an authority")
	}
	public, ok := all[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(key.Public()) {
		return nil, errors.New("the key is not that of the authority")
	}
	return &Authority{all[0], key}, nil
}

// ParseAll reads all certificates of a PEM text; there is at least one.
func ParseAll(text []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("a certificate cannot be read")
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("there is no PEM certificate in it")
	}
	return all, nil
}
