package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
)

// The files of a directory of certificates, as tanodb cert makes it.
const (
	CAFile      = "ca.crt"
	CAKeyFile   = "ca.key"
	NodeFile    = "node.crt"
	NodeKeyFile = "node.key"
)

// CertFiles are where a certificate, its key and the authorities are; all empty: there is
// no certificate.
type CertFiles struct{ Cert, Key, CA string }

// NodeTLS are the files for connections between nodes.
func (s *Server) NodeTLS() CertFiles {
	if s.TLSDir != "" {
		return s.inTLSDir()
	}
	return CertFiles{s.TLSCert, s.TLSKey, s.TLSCA}
}

// ClientTLS are those for connections of clients.
func (s *Server) ClientTLS() CertFiles {
	var f CertFiles
	if s.TLSDir != "" {
		f = s.inTLSDir()
	}
	if s.ClientTLSCert != "" {
		f.Cert, f.Key = s.ClientTLSCert, s.ClientTLSKey
	}
	if s.ClientTLSCA != "" {
		f.CA = s.ClientTLSCA
	}
	return f
}

func (s *Server) inTLSDir() CertFiles {
	in := func(name string) string { return filepath.Join(s.TLSDir, name) }
	return CertFiles{in(NodeFile), in(NodeKeyFile), in(CAFile)}
}

// ListenAt is the address for other nodes: the option, or this node's own in the list of
// members; empty: none.
func (s *Server) ListenAt() string {
	if s.Listen != "" {
		return s.Listen
	}
	for _, m := range s.Members() {
		if m.Name == s.Name {
			return m.Address
		}
	}
	return ""
}

// Exposed are the ports that strangers could reach and nothing would protect. The error
// is Problems, each with what to do.
func (c *Config) Exposed() error {
	if c.Insecure {
		return nil
	}
	const why = "%s is %s, which other machines can reach, and nothing protects it: give the node certificates with --tls-dir (tanodb cert --help says how), listen on 127.0.0.1, or say --insecure where your network keeps strangers out"
	var ps Problems
	check := func(name, address string, f CertFiles) {
		if address != "" && address != PBOff && f.Cert == "" && !IsLoopback(address) {
			ps = append(ps, Problem{Text: fmt.Sprintf(why, c.place(name), address)})
		}
	}
	check("http", c.HTTP, c.ClientTLS())
	check("pb", c.PB, c.ClientTLS())
	if c.Listen == "" {
		check("bootstrap", c.ListenAt(), c.NodeTLS())
	} else {
		check("listen", c.Listen, c.NodeTLS())
	}
	return ps.err()
}

// IsLoopback reports whether nobody beyond this machine reaches the address HOST:PORT. A
// name other than localhost may be anything.
func IsLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
