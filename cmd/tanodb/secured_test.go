package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb"
	goclient "github.com/tanodb/tanodb/client"
	"github.com/tanodb/tanodb/internal/certs"
	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// secured is a server with TLS and users, in this process.
type secured struct {
	ca      *certs.Authority
	dir     string // of the node's certificate
	at      addresses
	running *serving
}

// aDay is how long certificates of tests are valid.
const aDay = 24 * time.Hour

// startSecured starts a server with flags. Its users anna and bob have the password "right", carol
// has a certificate; each may read and write everything.
func startSecured(t *testing.T, flags string) *secured {
	t.Helper()
	ca, err := certs.NewAuthority("ca", time.Now(), aDay)
	if err != nil {
		t.Fatal(err)
	}
	x := &secured{ca: ca, dir: t.TempDir()}
	x.certify(t, x.dir, "n1")
	s, err := settingsFor(t, "--http 127.0.0.1:0 --pb 127.0.0.1:0 --partitions 8 --tls-dir "+x.dir+" --dir "+filepath.Join(t.TempDir(), "d")+" "+flags)
	if err != nil {
		t.Fatal(err)
	}
	x.at = addresses{s.now().HTTP, s.now().PB}
	d, err := x.at.listen()
	if err != nil {
		t.Fatal(err)
	}
	if x.running, err = s.open(make(chan os.Signal)); err != nil {
		t.Fatal(err)
	}
	failed := x.running.serve(d)
	t.Cleanup(func() {
		if err := errors.Join(x.running.close(), <-failed, x.running.node.Close()); err != nil {
			t.Error(err)
		}
	})
	here := netip.MustParsePrefix("127.0.0.0/8")
	for _, c := range []tanodb.SecurityChange{
		{Do: "add-user", Names: []string{"anna"}, Password: "right"},
		{Do: "add-user", Names: []string{"bob"}, Password: "right"},
		{Do: "add-user", Names: []string{"carol"}},
		{Do: "add-source", Names: []string{"all"}, CIDR: here, Method: "password"},
		{Do: "add-source", Names: []string{"carol"}, CIDR: here, Method: "certificate"},
		{Do: "grant", Names: []string{"all"}, Permissions: []tanodb.Permission{tanodb.PermGet, tanodb.PermPut}, Any: true},
		{Do: "grant", Names: []string{"anna"}, Permissions: []tanodb.Permission{tanodb.PermAdmin, tanodb.PermReadAdmin}, Any: true},
		{Do: "enable"},
	} {
		if err := x.running.node.ChangeSecurity(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

// certify writes a directory for a node.
func (x *secured) certify(t *testing.T, dir, name string) {
	t.Helper()
	node, err := x.ca.Node(name, []string{"127.0.0.1"}, time.Now(), aDay)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x.ca.Pair()
	if err != nil {
		t.Fatal(err)
	}
	for file, data := range map[string][]byte{"node.crt": node.Cert, "node.key": node.Key, "ca.crt": ca.Cert} {
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// trusts is the TLS of a client; with a pair it shows that.
func (x *secured) trusts(t *testing.T, shown *certs.Pair) *tls.Config {
	t.Helper()
	conf := &tls.Config{RootCAs: x509.NewCertPool()}
	conf.RootCAs.AddCert(x.ca.Cert)
	if shown == nil {
		return conf
	}
	pair, err := tls.X509KeyPair(shown.Cert, shown.Key)
	if err != nil {
		t.Fatal(err)
	}
	conf.Certificates = []tls.Certificate{pair}
	return conf
}

// web is a client of HTTP, with connections of its own.
func (x *secured) web(t *testing.T, conf *tls.Config) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: conf}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// put writes k over HTTP.
func (x *secured) put(c *http.Client, user, body string) (*http.Response, error) {
	req, err := http.NewRequest(http.MethodPut, "https://"+x.at.http+"/buckets/b/keys/k", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "text/plain")
	if user != "" {
		req.SetBasicAuth(user, "right")
	}
	resp, err := c.Do(req)
	if err == nil {
		resp.Body.Close()
	}
	return resp, err
}

// remote is a client of Protocol Buffers.
func (x *secured) remote(t *testing.T, conf *tls.Config, user string) *goclient.Client {
	t.Helper()
	c, err := goclient.New(goclient.Options{Addresses: []string{x.at.pb}, TLS: conf, User: user, Password: "right", DialTimeout: probeLogin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// A user who has had his share is told so by both protocols, wherever he has taken it, and
// counted; neither other users nor the bucket notice.
func TestBothProtocolsRefuseAUserPastHisLimit(t *testing.T) {
	x := startSecured(t, "--user-limits anna=0:1")
	conf := x.trusts(t, nil)
	web, key := x.web(t, conf), kv.Key{Bucket: "other", Name: "k"}
	anna, bob := x.remote(t, conf, "anna"), x.remote(t, conf, "bob")

	if resp, err := x.put(web, "anna", strings.Repeat("x", 600)); err != nil || resp.StatusCode != http.StatusNoContent {
		t.Fatalf("the first one: %v, %v", resp, err)
	}
	resp, err := x.put(web, "anna", "x")
	if err != nil {
		t.Fatal(err)
	}
	after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if resp.StatusCode != http.StatusServiceUnavailable || err != nil || after < 60 || after > 610 {
		t.Errorf("one too many: %s, to come again after %q", resp.Status, resp.Header.Get("Retry-After"))
	}
	if _, err := anna.Put(t.Context(), key, kv.Value{}, kv.WriteOptions{}); !errors.Is(err, kv.ErrOverload) {
		t.Errorf("the same user by Protocol Buffers: %v", err)
	}
	if resp, err := x.put(web, "bob", "x"); err != nil || resp.StatusCode != http.StatusNoContent {
		t.Errorf("another user: %v, %v", resp, err)
	}
	if _, err := bob.Put(t.Context(), key, kv.Value{}, kv.WriteOptions{}); err != nil {
		t.Errorf("another user by Protocol Buffers: %v", err)
	}
	families, err := x.running.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	refused := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "tanodb_refused_total" {
				refused[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	if refused["user_bytes"] != 2 || refused["bytes"] != 0 {
		t.Errorf("refusals are counted as %v", refused)
	}
}

// A user's certificate that is revoked is refused on the connections that there are, and on
// those that are made, by both protocols; the next one of the same user is not.
func TestBothProtocolsRefuseARevokedCertificate(t *testing.T) {
	x := startSecured(t, "")
	show := func() (*certs.Pair, *tls.Config) {
		p, err := x.ca.Client("carol", time.Now(), aDay)
		if err != nil {
			t.Fatal(err)
		}
		return &p, x.trusts(t, &p)
	}
	first, conf := show()
	key := kv.Key{Bucket: "b", Name: "k"}
	web, remote := x.web(t, conf), x.remote(t, conf, "carol")
	if resp, err := x.put(web, "", "x"); err != nil || resp.StatusCode != http.StatusNoContent {
		t.Fatalf("with the first one: %v, %v", resp, err)
	}
	if _, err := remote.Get(t.Context(), key, kv.ReadOptions{}); err != nil {
		t.Fatal(err)
	}
	raw := x.dialPB(t, conf)
	if code := raw.ask(t, riakpb.AuthReq, &riakpb.RpbAuthReq{User: []byte("carol"), Password: []byte{}}); code != riakpb.AuthResp {
		t.Fatalf("a login is answered with %d", code)
	}

	all, err := certs.ParseAll(first.Cert)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x.ca.Revoke(nil, all, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(certs.RevokedFile(filepath.Join(x.dir, "ca.crt")), list, 0o600); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for resp, err := x.put(web, "", "x"); err == nil && resp.StatusCode != http.StatusUnauthorized; resp, err = x.put(web, "", "x") {
		<-tick.C // a node looks at the files once a second at most
	}
	if code := raw.ask(t, riakpb.PingReq, nil); code != riakpb.Error {
		t.Errorf("an open connection is served: %d", code)
	}
	if n, err := raw.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("it is not closed: %d bytes, %v", n, err)
	}
	for name, c := range map[string]*http.Client{"the client of before": web, "a new connection": x.web(t, conf)} {
		if resp, err := x.put(c, "", "x"); err == nil {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
	for name, c := range map[string]*goclient.Client{"the client of before": remote, "a new connection": x.remote(t, conf, "carol")} {
		if _, err := c.Get(t.Context(), key, kv.ReadOptions{Timeout: time.Second}); err == nil {
			t.Errorf("by Protocol Buffers, %s: no error", name)
		}
	}
	_, next := show()
	if resp, err := x.put(x.web(t, next), "", "x"); err != nil || resp.StatusCode != http.StatusNoContent {
		t.Errorf("with the next one: %v, %v", resp, err)
	}
	if _, err := x.remote(t, next, "carol").Get(t.Context(), key, kv.ReadOptions{}); err != nil {
		t.Errorf("by Protocol Buffers, with the next one: %v", err)
	}
}

// rawPB is one connection of Protocol Buffers over TLS.
type rawPB struct{ *tls.Conn }

func (x *secured) dialPB(t *testing.T, conf *tls.Config) *rawPB {
	t.Helper()
	c, err := tls.Dial("tcp", x.at.pb, conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &rawPB{c}
}

// ask sends a message and returns the code of the answer.
func (c *rawPB) ask(t *testing.T, code riakpb.Code, m proto.Message) riakpb.Code {
	t.Helper()
	body, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	frame := append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+1)), byte(code))
	if _, err := c.Write(append(frame, body...)); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(c, head); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, binary.BigEndian.Uint32(head))
	if _, err := io.ReadFull(c, answer); err != nil {
		t.Fatal(err)
	}
	return riakpb.Code(answer[0])
}
