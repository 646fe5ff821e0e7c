package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	grpcpeer "google.golang.org/grpc/peer"
)

// errNotNode is a peer with a certificate of the cluster's authority that is not a
// node's: it may ask and not serve, as a user's.
var errNotNode = errors.New("transport: the peer's certificate is not that of a node: it must be good for server and client authentication")

// alpn is what gRPC wants both sides to agree on.
const alpn = "h2"

// secure makes the credentials of both directions: TLS 1.3 with certificates on both
// sides, or none.
func secure(cfg *tls.Config) (dialling, accepting credentials.TransportCredentials, err error) {
	if cfg == nil {
		return insecure.NewCredentials(), insecure.NewCredentials(), nil
	}
	if len(cfg.Certificates) == 0 && (cfg.GetCertificate == nil || cfg.GetClientCertificate == nil) {
		return nil, nil, errors.New("transport: TLS needs a certificate of this node")
	}
	if cfg.RootCAs == nil {
		return nil, nil, errors.New("transport: TLS needs the RootCAs that vouch for the other nodes")
	}
	in := incoming(cfg)
	if cfg.GetConfigForClient == nil {
		return credentials.NewTLS(outgoing(cfg)), credentials.NewTLS(in), nil
	}
	in.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		c, err := cfg.GetConfigForClient(h)
		if err != nil || c == nil {
			return nil, errors.Join(errors.New("transport: no configuration of TLS"), err)
		}
		return incoming(c), nil
	}
	return &renewed{credentials.NewTLS(outgoing(cfg)), cfg.GetConfigForClient}, credentials.NewTLS(in), nil
}

// outgoing is the configuration of the side that dials. It checks that the certificate
// of the other is for the host that it has dialled.
func outgoing(cfg *tls.Config) *tls.Config {
	c := cfg.Clone()
	c.MinVersion, c.GetConfigForClient = tls.VersionTLS13, nil
	return c
}

// incoming is that of the side that accepts. It knows no name of the other before the
// hello, and takes any node.
func incoming(cfg *tls.Config) *tls.Config {
	c := outgoing(cfg)
	c.ClientAuth = tls.RequireAndVerifyClientCert
	if c.ClientCAs == nil {
		c.ClientCAs = c.RootCAs
	}
	if !slices.Contains(c.NextProtos, alpn) {
		c.NextProtos = append(slices.Clone(c.NextProtos), alpn)
	}
	verify := c.VerifyConnection
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 || !slices.Contains(s.PeerCertificates[0].ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
			return errNotNode
		}
		if verify != nil {
			return verify(s)
		}
		return nil
	}
	return c
}

// shown is how a connection was secured, as gRPC keeps it; false: it is plain.
func shown(ctx context.Context) (tls.ConnectionState, bool) {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return tls.ConnectionState{}, false
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	return info.State, ok
}

// stillGood asks whether the peer of an open connection would still be talked to.
func (m *Mesh) stillGood(w wire) error {
	if m.cfg.TLS == nil || m.cfg.TLS.VerifyConnection == nil {
		return nil
	}
	s, ok := w.(interface {
		secured() (tls.ConnectionState, bool)
	})
	if !ok {
		return nil
	}
	state, ok := s.secured()
	if !ok {
		return nil
	}
	return m.cfg.TLS.VerifyConnection(state)
}

// renewed are credentials that take the configuration of the moment for each connection
// that is dialled, as the other direction does by GetConfigForClient.
type renewed struct {
	credentials.TransportCredentials
	current func(*tls.ClientHelloInfo) (*tls.Config, error)
}

// ClientHandshake implements credentials.TransportCredentials.
func (r *renewed) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, err := r.current(nil)
	if err != nil || c == nil {
		return nil, nil, errors.Join(errors.New("transport: no configuration of TLS"), err)
	}
	return credentials.NewTLS(outgoing(c)).ClientHandshake(ctx, authority, conn)
}

// Clone implements credentials.TransportCredentials.
func (r *renewed) Clone() credentials.TransportCredentials {
	return &renewed{r.TransportCredentials.Clone(), r.current}
}
