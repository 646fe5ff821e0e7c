// Package certs makes the certificates of a cluster and keeps them fresh: a private
// authority (authority.go), what it signs for nodes and users, what it has taken back
// (revoked.go), and the files that a running node reads again when they change (source.go).
//
// There are two kinds of certificates, and one cannot stand for the other:
//
//	node    may serve and may ask: serverAuth and clientAuth. Its names are the hosts
//	        at which others reach it.
//	client  may ask only: clientAuth. Its common name is the user.
package certs

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind is what a certificate is for.
type Kind string

// The kinds.
const (
	KindCA     Kind = "ca"
	KindNode   Kind = "node"
	KindClient Kind = "client"
	KindServer Kind = "server" // serves clients, and is no node: it may not ask
)

// WarnBefore is how long before its end a certificate is warned of.
const WarnBefore = 30 * 24 * time.Hour

// Info is what people want to know of a certificate.
type Info struct {
	Path    string    `json:"path"`
	Kind    Kind      `json:"kind"`
	Name    string    `json:"name"` // the common name
	Hosts   []string  `json:"hosts,omitempty"`
	Issuer  string    `json:"issuer"`
	Begins  time.Time `json:"begins"`
	Ends    time.Time `json:"ends"`
	Warning string    `json:"warning,omitempty"`
}

// Describe is the Info of a certificate from a file, as of a time.
func Describe(path string, c *x509.Certificate, now time.Time) Info {
	i := Info{Path: path, Kind: kindOf(c), Name: c.Subject.CommonName, Hosts: slices.Clone(c.DNSNames), Issuer: c.Issuer.CommonName, Begins: c.NotBefore, Ends: c.NotAfter}
	for _, ip := range c.IPAddresses {
		i.Hosts = append(i.Hosts, ip.String())
	}
	switch left := c.NotAfter.Sub(now); {
	case now.Before(c.NotBefore):
		i.Warning = "it is not valid yet: is the clock right?"
	case left <= 0:
		i.Warning = "it has expired: nobody accepts it"
	case left < WarnBefore:
		i.Warning = fmt.Sprintf("it expires in %d days: make another one", int(left.Hours()/24))
	}
	return i
}

func kindOf(c *x509.Certificate) Kind {
	serves := slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
	asks := slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
	switch {
	case c.IsCA:
		return KindCA
	case serves && asks:
		return KindNode
	case serves:
		return KindServer
	}
	return KindClient
}

// Mark says of a certificate that is revoked that it is.
func (i *Info) Mark(c *x509.Certificate, by *Revoked) {
	if by.Has(c) {
		i.Warning = "it is revoked: nobody accepts it who has the list"
	}
}

// String is one line.
func (i Info) String() string {
	s := fmt.Sprintf("%s: %s %s", i.Path, i.Kind, i.Name)
	if len(i.Hosts) > 0 {
		s += " (" + strings.Join(i.Hosts, ", ") + ")"
	}
	s += ", signed by " + i.Issuer + ", until " + i.Ends.UTC().Format(time.RFC3339)
	if i.Warning != "" {
		s += "\n  WARNING: " + i.Warning
	}
	return s
}
