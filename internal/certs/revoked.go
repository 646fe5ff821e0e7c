package certs

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// maxRevokedBytes is how large a file of lists may be: some hundred thousand certificates.
const maxRevokedBytes = 16 << 20

// crlType is what PEM calls a list of revoked certificates.
const crlType = "X509 CRL"

// ErrRevoked refuses a connection.
var ErrRevoked = errors.New("the certificate is revoked")

// RevokedFile is where the lists of an authority's file are: beside it, with the ending .crl.
func RevokedFile(ca string) string {
	if ca == "" {
		return ""
	}
	return strings.TrimSuffix(ca, filepath.Ext(ca)) + ".crl"
}

// Revoked are certificates that are good for nothing, though they have not expired. The
// zero value has none.
type Revoked struct{ all map[string]struct{} }

// idOf tells certificates apart: each authority gives a number only once.
func idOf(issuer []byte, serial *big.Int) string { return serial.Text(62) + " " + string(issuer) }

// Has reports whether a certificate is revoked.
func (r *Revoked) Has(c *x509.Certificate) bool {
	if r == nil || len(r.all) == 0 {
		return false
	}
	_, is := r.all[idOf(c.RawIssuer, c.SerialNumber)]
	return is
}

// count is how many there are.
func (r *Revoked) count() int {
	if r == nil {
		return 0
	}
	return len(r.all)
}

// Check is ErrRevoked if the other side of a connection has shown a certificate that is
// revoked, or one that signs for it.
func (r *Revoked) Check(s tls.ConnectionState) error {
	if slices.ContainsFunc(s.PeerCertificates, r.Has) {
		return fmt.Errorf("%w: %s", ErrRevoked, s.PeerCertificates[0].Subject.CommonName)
	}
	return nil
}

// ParseRevoked reads the lists of a PEM text. Those of authorities that are not among the given
// ones are passed over: what they have signed is refused anyway. A list that one of these
// should have signed, and has not, is an error.
func ParseRevoked(text []byte, by []*x509.Certificate) (*Revoked, error) {
	if len(text) > maxRevokedBytes {
		return nil, fmt.Errorf("it has more than %d bytes", maxRevokedBytes)
	}
	r := &Revoked{all: map[string]struct{}{}}
	for lists := 0; ; lists++ {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			if lists == 0 {
				return nil, errors.New("there is no PEM list of revoked certificates in it")
			}
			return r, nil
		}
		if block.Type != crlType {
			return nil, fmt.Errorf("it has a PEM block of the type %.32q; there may be %q only", block.Type, crlType)
		}
		list, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, errors.New("a list of revoked certificates cannot be read")
		}
		if err := r.add(list, by); err != nil {
			return nil, err
		}
	}
}

func (r *Revoked) add(list *x509.RevocationList, by []*x509.Certificate) error {
	var wrong error
	for _, ca := range by {
		if string(ca.RawSubject) != string(list.RawIssuer) || len(list.AuthorityKeyId) > 0 && string(list.AuthorityKeyId) != string(ca.SubjectKeyId) {
			continue
		}
		if wrong = list.CheckSignatureFrom(ca); wrong == nil {
			for _, e := range list.RevokedCertificateEntries {
				r.all[idOf(list.RawIssuer, e.SerialNumber)] = struct{}{}
			}
			return nil
		}
	}
	if wrong != nil {
		return fmt.Errorf("the authority %s has not signed its list of revoked certificates: %w", list.Issuer.CommonName, wrong)
	}
	return nil
}

// Revoke signs the list of an authority anew, with more certificates in it. Text is the list
// as it is; empty: there is none. Of certificates that are in it already the first entry
// stays.
func (a *Authority) Revoke(text []byte, more []*x509.Certificate, now time.Time) ([]byte, error) {
	t := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: a.Cert.NotAfter}
	if len(text) > 0 {
		if _, err := ParseRevoked(text, []*x509.Certificate{a.Cert}); err != nil {
			return nil, err
		}
		block, _ := pem.Decode(text)
		old, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, err
		}
		t.RevokedCertificateEntries = old.RevokedCertificateEntries
		if old.Number != nil {
			t.Number = new(big.Int).Add(old.Number, t.Number)
		}
	}
	for _, c := range more {
		if c.CheckSignatureFrom(a.Cert) != nil {
			return nil, fmt.Errorf("this authority has not signed the certificate of %s", c.Subject.CommonName)
		}
		there := slices.ContainsFunc(t.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Cmp(c.SerialNumber) == 0 })
		if !there {
			t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: now})
		}
	}
	der, err := x509.CreateRevocationList(rand.Reader, t, a.Cert, a.key)
	if err != nil {
		return nil, fmt.Errorf("the list cannot be signed: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: crlType, Bytes: der}), nil
}
