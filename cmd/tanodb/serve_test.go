package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/config"
	"github.com/tanodb/tanodb/internal/limit"
	"github.com/tanodb/tanodb/internal/server/api"
	httpd "github.com/tanodb/tanodb/internal/server/http"
	"github.com/tanodb/tanodb/internal/server/pb"
	"github.com/tanodb/tanodb/internal/server/riakpb"
	"github.com/tanodb/tanodb/kv"
)

// settingsFor are the settings of tanodb serve with these flags.
func settingsFor(t *testing.T, line string) (*settings, error) {
	t.Helper()
	var c cli
	parser, err := newParser(&c, io.Discard, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(append([]string{"serve"}, strings.Fields(line)...)); err != nil {
		return nil, err
	}
	cfg, err := c.Serve.load()
	if err != nil {
		return nil, err
	}
	was := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(was) })
	return newSettings(cfg, io.Discard)
}

// A node that serves its own machine is called by names of that, and by those that it was told
// of; one that serves everybody by any, unless it was told of some.
func TestNamesThatANodeIsAskedBy(t *testing.T) {
	own, err := os.Hostname()
	if err != nil {
		t.Skip("this machine has no name: ", err)
	}
	for line, want := range map[string][]string{
		"--http 127.0.0.1:1": {own, "127.0.0.1"},
		"--http localhost:1 --allowed-hosts db.example,DB2":                {own, "localhost", "db.example", "DB2"},
		"--http 10.0.0.1:1 --tls-dir d":                                    {own, "10.0.0.1"},
		"--http 10.0.0.1:1 --pb off --insecure":                            nil,
		"--http 10.0.0.1:1 --pb off --insecure --allowed-hosts db.example": {own, "10.0.0.1", "db.example"},
		"--http 127.0.0.1:1 --insecure":                                    {own, "127.0.0.1"},
	} {
		var c cli
		parser, err := newParser(&c, io.Discard, io.Discard, func(int) {})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(append([]string{"serve"}, strings.Fields(line)...)); err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		cfg, err := c.Serve.load()
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if got := localNames(cfg); !slices.Equal(got, want) || (got == nil) != (want == nil) {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

// A node that could not open what its options allow says so when it starts, and not when it is busy.
func TestTooFewFiles(t *testing.T) {
	for name, c := range map[string]struct {
		limit uint64
		flags []config.Given
		want  string
	}{
		"of the default on many machines": {4096, nil, "the limit of open files is 4096, and 12000 may be needed"},
		"of the unit":                     {131072, nil, ""},
		"not known":                       {0, nil, ""},
		"exactly enough":                  {12000, nil, ""},
		"few clients":                     {2499, []config.Given{{Name: "max-connections", Text: "500"}}, "2499, and 2500 may"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := config.Load(config.Input{Flags: c.flags})
			if err != nil {
				t.Fatal(err)
			}
			if got := tooFewFiles(cfg, c.limit); c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// Whoever reads a node's key can be that node; who has copied it with a careless mode is told.
func TestAKeyThatOthersMayRead(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes say nothing there")
	}
	dir := t.TempDir()
	ca, out := filepath.Join(dir, "ca"), filepath.Join(dir, "n1")
	for _, line := range []string{"cert init --ca-dir " + ca, "cert node n1 --host 127.0.0.1 --ca-dir " + ca + " --out " + out} {
		if code := run(strings.Fields(line), strings.NewReader(""), io.Discard, io.Discard); code != exitDone {
			t.Fatalf("%s: exit code %d", line, code)
		}
	}
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o644: true} {
		key := filepath.Join(out, config.NodeKeyFile)
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		cfg, err := config.Load(config.Input{Flags: []config.Given{{Name: "tls-dir", Text: out}}})
		if err != nil {
			t.Fatal(err)
		}
		var logs bytes.Buffer
		if _, err := newSettings(cfg, &logs); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(logs.String(), key); (got == 1) != want || !want && got != 0 {
			t.Errorf("with the mode %v the log has\n%s", mode, logs.String())
		}
	}
}

func TestServeJoins(t *testing.T) {
	s, err := settingsFor(t, "--listen h4:7098 --auto-join h1:1,h2:2 --zone south --weight 50 --advertise p:3 --transfer-rate 2MiB --repair-every 10m --repair-rate 0 --cache 1GiB --max-object 1MiB --max-siblings 7 --max-clock-offset 1s --max-requests 5")
	if err != nil {
		t.Fatal(err)
	}
	o := s.nodeOptions(s.now())
	o.Logger = nil
	want := tanodb.Options{
		Listen: "h4:7098", Join: []string{"h1:1", "h2:2"}, AutoJoin: true, Zone: "south", Weight: 50, Advertise: "p:3",
		TransferBytes: 2 << 20, RepairEvery: 10 * time.Minute, RepairBytes: -1, RepairObjects: 2000, Durability: tanodb.Sync, CacheBytes: 1 << 30,
		MaxRequests: 5, MaxObject: 1 << 20, MaxSiblings: 7, MaxClockOffset: time.Second, SlowRequest: time.Second,
	}
	if diff := cmp.Diff(want, o); diff != "" {
		t.Error(diff)
	}
	if s, err = settingsFor(t, "--listen h4:7098 --join h1:1 --join h2:2 --partitions 128 --replicas 5 --replicas 6"); err != nil {
		t.Fatal(err)
	}
	if o = s.nodeOptions(s.now()); o.AutoJoin || !slices.Equal(o.Join, []string{"h1:1", "h2:2"}) || o.Partitions != 128 || o.Replicas != 6 {
		t.Errorf("%+v", o)
	}
	for line, want := range map[string]string{
		"--join h1:1 --listen h4:1 --auto-join h1:1": "contradict each other",
		"--join h1:1":             "--join needs --listen",
		"--auto-join h1:1":        "--auto-join needs --listen",
		"--join h1 --listen h4:1": "must be HOST:PORT",
		"--join h1:1 --listen h4:1 --bootstrap a=h1:1": "--bootstrap and --join contradict each other",
		"--weight=-1":                 "--weight is -1",
		"--advertise h4":              "--advertise",
		"--transfer-rate fast":        "not a number of bytes",
		"--replicas=-1":               "--replicas is -1",
		"--pprof=perhaps":             "--pprof is",
		"--cache":                     "cache",
		"--config /nowhere/to/be.fnd": "cannot read the configuration",
	} {
		if _, err := settingsFor(t, line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
}

func TestServeBootstraps(t *testing.T) {
	s, err := settingsFor(t, "--name b --bootstrap a=h:1,b=h:2")
	if err != nil {
		t.Fatal(err)
	}
	o := s.nodeOptions(s.now())
	if diff := cmp.Diff([]tanodb.Member{{Name: "a", Address: "h:1"}, {Name: "b", Address: "h:2"}}, o.Bootstrap); diff != "" || o.Listen != "h:2" {
		t.Errorf("it listens on %q, %s", o.Listen, diff)
	}
}

func TestTheServersHaveTheLimitsOfTheOptions(t *testing.T) {
	s, err := settingsFor(t, "--max-connections 3 --request-memory 5MiB --http-header-timeout 1s --http-idle-timeout 2s --pb-idle-timeout 3s --read-timeout 4s --write-timeout 5s --slowest-client 6KiB --bucket-requests 7 --bucket-bytes 8KiB --bucket-limits logs=9:0 --user-requests 11 --user-bytes 12KiB --user-limits web1=13:14 --allow-key-lists=false")
	if err != nil {
		t.Fatal(err)
	}
	h := s.httpOptions(s.now())
	if h.AllowsLists() || h.Settings != httpd.Settings(s) {
		t.Error("lists are allowed, or these are not the settings")
	}
	h.AllowsLists, h.Settings, h.Logger = nil, nil, nil
	wantHTTP := httpd.Options{MaxConnections: 3, MaxBodies: 5 << 20, HeaderTimeout: time.Second, IdleTimeout: 2 * time.Second, ReadGrace: 4 * time.Second, WriteGrace: 5 * time.Second, Slowest: 6 << 10}
	if diff := cmp.Diff(wantHTTP, h); diff != "" {
		t.Error(diff)
	}
	p := s.pbOptions(s.now())
	if p.AllowsLists() {
		t.Error("lists are allowed")
	}
	p.AllowsLists, p.Logger = nil, nil
	wantPB := pb.Options{MaxConnections: 3, MaxFrames: 5 << 20, IdleTimeout: 3 * time.Second, ReadGrace: 4 * time.Second, WriteGrace: 5 * time.Second, Slowest: 6 << 10}
	if diff := cmp.Diff(wantPB, p); diff != "" {
		t.Error(diff)
	}
	wantRules := limit.Rules{Each: limit.Rates{Requests: 7, Bytes: 8 << 10}, Buckets: map[kv.Bucket]limit.Rates{{Name: "logs"}: {Requests: 9}}, NoLists: true,
		User: limit.Rates{Requests: 11, Bytes: 12 << 10}, Users: map[string]limit.Rates{"web1": {Requests: 13, Bytes: 14}}}
	if diff := cmp.Diff(wantRules, doorRules(s.now())); diff != "" {
		t.Error(diff)
	}
}

func TestTheMemoryLimitIsHonoured(t *testing.T) {
	was := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(was) })
	for _, tc := range []struct {
		born  int64
		flags string
		limit int64
		cache int64
	}{
		{math.MaxInt64, "", math.MaxInt64, 256 << 20},
		{math.MaxInt64, "--memory-limit 8GiB", 8 << 30, 2 << 30},
		{4 << 30, "", 4 << 30, 1 << 30}, // GOMEMLIMIT
		{4 << 30, "--memory-limit 8GiB --cache 1MiB", 8 << 30, 1 << 20},
	} {
		debug.SetMemoryLimit(tc.born)
		s, err := settingsFor(t, tc.flags)
		if err != nil {
			t.Fatal(err)
		}
		if got := debug.SetMemoryLimit(-1); got != tc.limit {
			t.Errorf("%q, born with %d: the limit is %d, want %d", tc.flags, tc.born, got, tc.limit)
		}
		if got := s.nodeOptions(s.now()).CacheBytes; got != tc.cache {
			t.Errorf("%q, born with %d: the cache has %d bytes, want %d", tc.flags, tc.born, got, tc.cache)
		}
		if _, err := s.Set("memory-limit", "16GiB"); err != nil || debug.SetMemoryLimit(-1) != 16<<30 {
			t.Errorf("set: %v, and the limit is %d", err, debug.SetMemoryLimit(-1))
		}
		if _, err := s.Set("memory-limit", "0"); err != nil || debug.SetMemoryLimit(-1) != tc.born {
			t.Errorf("set back: %v, and the limit is %d", err, debug.SetMemoryLimit(-1))
		}
	}
}

// Whatever is set while a node runs holds at once, and when the node is opened again.
func TestSetOptionsHold(t *testing.T) {
	s, err := settingsFor(t, "--pb off --http 127.0.0.1:0 --repair-rate 1MiB --dir "+filepath.Join(t.TempDir(), "d"))
	if err != nil {
		t.Fatal(err)
	}
	running, err := s.open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer running.node.Close()
	if s.log.Enabled(t.Context(), slog.LevelDebug) {
		t.Error("it logs too much")
	}
	for name, value := range map[string]string{"log-level": "debug", "repair-rate": "2MiB", "max-object": "1KiB", "allow-key-lists": "false"} {
		set, err := s.Set(name, value)
		if err != nil || set.Value != value || set.Source != "set" || !set.Live {
			t.Errorf("%s: error %v, %+v", name, err, set)
		}
	}
	if !s.log.Enabled(t.Context(), slog.LevelDebug) || s.door.AllowsLists() {
		t.Error("it does not log more, or lists are allowed")
	}
	if _, err := running.node.Put(t.Context(), kv.Key{Bucket: "b", Name: "k"}, kv.Value{Data: make([]byte, 2<<10)}, kv.WriteOptions{}); err == nil {
		t.Error("a large object is taken")
	}
	if o := s.nodeOptions(s.now()); o.RepairBytes != 2<<20 || o.MaxObject != 1<<10 {
		t.Errorf("opened again, it would have %d bytes for repair, %d for an object", o.RepairBytes, o.MaxObject)
	}
	all := s.Settings()
	if all.Node != "tanodb" || all.Settings[slices.IndexFunc(all.Settings, func(x api.Setting) bool { return x.Name == "cache" })].Effective != "256MiB" {
		t.Errorf("%+v", all)
	}
	for name, value := range map[string]string{"cache": "1GiB", "repair-rat": "1", "log-level": "loud"} {
		if _, err := s.Set(name, value); !errors.Is(err, kv.ErrInvalid) {
			t.Errorf("%s %s: %v", name, value, err)
		}
	}
}

// One request too many of a bucket is told so by both protocols, and counted; other
// buckets do not notice.
func TestBothProtocolsRefuseWhatIsPastTheLimit(t *testing.T) {
	s, err := settingsFor(t, "--http 127.0.0.1:0 --pb 127.0.0.1:0 --bucket-limits b=0:1 --dir "+filepath.Join(t.TempDir(), "d"))
	if err != nil {
		t.Fatal(err)
	}
	at := addresses{s.now().HTTP, s.now().PB}
	d, err := at.listen()
	if err != nil {
		t.Fatal(err)
	}
	running, err := s.open(make(chan os.Signal))
	if err != nil {
		t.Fatal(err)
	}
	failed := running.serve(d)
	t.Cleanup(func() {
		if err := errors.Join(running.close(), <-failed, running.node.Close()); err != nil {
			t.Error(err)
		}
	})
	base := "http://" + at.http
	put := func(path, body string) *http.Response {
		t.Helper()
		resp, err := http.Post(base+path, "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	if resp := put("/buckets/b/keys/k", strings.Repeat("x", 600)); resp.StatusCode != http.StatusNoContent {
		t.Fatalf("the first one: %s", resp.Status)
	}
	resp := put("/buckets/b/keys/k", "x")
	after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if resp.StatusCode != http.StatusServiceUnavailable || err != nil || after < 60 || after > 610 {
		t.Errorf("one too many: %s, to come again after %q", resp.Status, resp.Header.Get("Retry-After"))
	}
	if resp := put("/buckets/other/keys/k", "x"); resp.StatusCode != http.StatusNoContent {
		t.Errorf("another bucket: %s", resp.Status)
	}
	c, err := net.Dial("tcp", at.pb)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	get, err := proto.Marshal(&riakpb.RpbListKeysReq{Bucket: []byte("b")})
	if err != nil {
		t.Fatal(err)
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(len(get)+1))
	if _, err := c.Write(append(append(head, byte(riakpb.ListKeysReq)), get...)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 4)
	if _, err := io.ReadFull(c, answer); err != nil {
		t.Fatal(err)
	}
	answer = make([]byte, binary.BigEndian.Uint32(answer))
	if _, err := io.ReadFull(c, answer); err != nil {
		t.Fatal(err)
	}
	var refusal riakpb.RpbErrorResp
	if err := proto.Unmarshal(answer[1:], &refusal); riakpb.Code(answer[0]) != riakpb.Error || err != nil || string(refusal.Errmsg) != "overload" {
		t.Errorf("Protocol Buffers answer %q, error %v", answer, err)
	}
	shown, err := http.Get(base + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer shown.Body.Close()
	page, err := io.ReadAll(shown.Body)
	if want := `tanodb_refused_total{limit="bytes"} 2`; err != nil || !strings.Contains(string(page), want) {
		t.Errorf("the metrics lack %s, error %v", want, err)
	}
}
