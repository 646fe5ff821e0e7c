package main

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"github.com/tanodb/tanodb"
)

func TestServeJoins(t *testing.T) {
	parsed := func(line string) (*serveCmd, error) {
		t.Helper()
		var c cli
		parser, err := kong.New(&c, kong.Vars{"addr": defaultAddr})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(append([]string{"serve"}, strings.Fields(line)...)); err != nil {
			return nil, err
		}
		return &c.Serve, nil
	}
	c, err := parsed("--listen h4:7098 --auto-join h1:1,h2:2 --zone south --weight 50 --advertise p:3 --transfer-rate 2MiB --repair-every 10m --repair-rate 0")
	if err != nil {
		t.Fatal(err)
	}
	o, err := c.options(io.Discard)
	o.Logger = nil
	want := tanodb.Options{
		Listen: "h4:7098", Join: []string{"h1:1", "h2:2"}, AutoJoin: true, Zone: "south", Weight: 50, Advertise: "p:3",
		TransferBytes: 2 << 20, RepairEvery: 10 * time.Minute, RepairBytes: -1, RepairObjects: 2000, Durability: tanodb.Sync, CacheBytes: 256 << 20,
	}
	if diff := cmp.Diff(want, o); diff != "" || err != nil {
		t.Errorf("error %v, %s", err, diff)
	}
	c, err = parsed("--listen h4:7098 --join h1:1 --partitions 128 --replicas 5")
	if err != nil {
		t.Fatal(err)
	}
	if o, err = c.options(io.Discard); err != nil || o.AutoJoin || !slices.Equal(o.Join, []string{"h1:1"}) || o.Partitions != 128 || o.Replicas != 5 {
		t.Errorf("error %v, %+v", err, o)
	}
	for line, want := range map[string]string{
		"--join h1:1 --listen h4:1 --auto-join h1:1": "contradict each other",
		"--join h1:1":             "--join needs --listen",
		"--auto-join h1:1":        "--auto-join needs --listen",
		"--join h1 --listen h4:1": "must be HOST:PORT",
		"--join h1:1 --listen h4:1 --bootstrap a=h1:1": "--bootstrap and --join contradict each other",
		"--weight=-1":          "--weight is -1",
		"--advertise h4":       "--advertise",
		"--transfer-rate fast": "not a number of bytes",
		"--replicas=-1":        "--replicas is -1",
	} {
		c, err := parsed(line)
		if err == nil {
			_, err = c.options(io.Discard)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
}
