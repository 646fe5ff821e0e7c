package main

import (
	"io"
	"log/slog"
	"math"
	"runtime/debug"
	"sync"
	"time"

	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/tanodb/tanodb"
	"github.com/tanodb/tanodb/internal/certs"
	"github.com/tanodb/tanodb/internal/config"
	"github.com/tanodb/tanodb/internal/limit"
	"github.com/tanodb/tanodb/internal/server/api"
	httpd "github.com/tanodb/tanodb/internal/server/http"
	"github.com/tanodb/tanodb/internal/server/pb"
	"github.com/tanodb/tanodb/kv"
)

// settings are what a server goes by while it runs: its configuration, and who has to
// hear of a change of it.
type settings struct {
	log   *slog.Logger
	level slog.LevelVar
	door  *limit.Door
	nodes *certs.Source         // of the connections between nodes; nil: they are plain
	users *certs.Source         // of those of clients
	spans *trace.TracerProvider // nil: nothing is traced
	born  int64                 // the memory limit that the process has begun with: GOMEMLIMIT, or none

	mu     sync.Mutex
	config *config.Config
	node   *tanodb.Node // nil: none is open
}

// newSettings makes the settings of a server that is to start. Logs go to the writer.
func newSettings(c *config.Config, logs io.Writer) (*settings, error) {
	s := &settings{config: c, door: limit.NewDoor(), born: debug.SetMemoryLimit(-1)}
	s.log = newLogger(c, logs, &s.level)
	if err := s.openCerts(c); err != nil {
		return nil, err
	}
	var err error
	if s.spans, err = newTraces(c, s.log); err != nil {
		return nil, err
	}
	return s, s.apply(c)
}

// newLogger logs in the format of the configuration.
func newLogger(c *config.Config, w io.Writer, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// now is the configuration as it is.
func (s *settings) now() *config.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config
}

// runs says which node is to hear of changes, from now on.
func (s *settings) runs(n *tanodb.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.node = n
}

// apply makes a configuration hold, as far as it is not one of the start alone. The
// caller holds the lock, or nobody else knows the settings yet.
func (s *settings) apply(c *config.Config) error {
	if s.node != nil {
		if err := s.node.Retune(s.nodeOptions(c)); err != nil {
			return err
		}
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return err // the table lets no other name through
	}
	s.level.Set(level)
	s.door.Set(doorRules(c))
	limit := s.born
	if c.MemoryLimit > 0 {
		limit = int64(c.MemoryLimit)
	}
	debug.SetMemoryLimit(limit)
	return nil
}

// doorRules are what the configuration lets clients have.
func doorRules(c *config.Config) limit.Rules {
	r := limit.Rules{
		Each:    limit.Rates{Requests: int64(c.BucketRequests), Bytes: int64(c.BucketBytes)},
		NoLists: !c.AllowKeyLists,
		Buckets: map[kv.Bucket]limit.Rates{},
		User:    limit.Rates{Requests: int64(c.UserRequests), Bytes: int64(c.UserBytes)},
		Users:   map[string]limit.Rates{},
	}
	for _, l := range c.LimitsOfUsers() {
		r.Users[l.User] = limit.Rates{Requests: int64(l.Requests), Bytes: int64(l.Bytes)}
	}
	for _, l := range c.LimitsOfBuckets() {
		r.Buckets[l.Bucket] = limit.Rates{Requests: int64(l.Requests), Bytes: int64(l.Bytes)}
	}
	return r
}

// memoryLimit is what the process tries to stay below; 0: nothing.
func (s *settings) memoryLimit(c *config.Config) config.Bytes {
	switch {
	case c.MemoryLimit > 0:
		return c.MemoryLimit
	case s.born < math.MaxInt64:
		return config.Bytes(s.born)
	}
	return 0
}

// nodeOptions are the options of the node.
func (s *settings) nodeOptions(c *config.Config) tanodb.Options {
	o := tanodb.Options{
		Name:           c.Name,
		Listen:         c.ListenAt(),
		Advertise:      c.Advertise,
		Join:           append(c.Join[:len(c.Join):len(c.Join)], c.AutoJoin...), // one of them is empty
		AutoJoin:       len(c.AutoJoin) > 0,
		Zone:           c.Zone,
		Weight:         c.Weight,
		Partitions:     c.Partitions,
		Replicas:       c.Replicas,
		Durability:     tanodb.Durability(c.Durability),
		TLS:            s.nodeTLS(),
		Certificates:   s.shown(),
		CacheBytes:     int64(c.CacheSize(s.memoryLimit(c))),
		MaxRequests:    c.MaxRequests,
		MaxObject:      int(c.MaxObject),
		MaxSiblings:    c.MaxSiblings,
		MaxClockOffset: c.MaxClockOffset,
		SlowRequest:    time.Duration(orUnlimited(int64(c.SlowRequest))),
		TransferBytes:  int64(c.TransferRate),
		RepairEvery:    c.RepairEvery,
		RepairBytes:    orUnlimited(int64(c.RepairRate)),
		RepairObjects:  int(orUnlimited(int64(c.RepairObjects))),
		Logger:         s.log,
		ClusterName:    c.ClusterName,
	}
	if s.spans != nil {
		o.Traces = s.spans
	}
	for _, m := range c.Members() {
		o.Bootstrap = append(o.Bootstrap, tanodb.Member{Name: m.Name, Address: m.Address})
	}
	return o
}

// orUnlimited turns the 0 of the configuration, no limit, into the -1 of an option.
func orUnlimited(n int64) int64 {
	if n == 0 {
		return -1
	}
	return n
}

// httpOptions are the limits of HTTP.
func (s *settings) httpOptions(c *config.Config) httpd.Options {
	return httpd.Options{
		MaxConnections: c.MaxConnections,
		MaxBodies:      int64(c.RequestMemorySize(s.memoryLimit(c))),
		HeaderTimeout:  c.HTTPHeaderTimeout,
		IdleTimeout:    c.HTTPIdleTimeout,
		ReadGrace:      c.ReadTimeout,
		WriteGrace:     c.WriteTimeout,
		Slowest:        int64(c.SlowestClient),
		AllowsLists:    s.door.AllowsLists,
		TLS:            s.clientTLS(),
		Settings:       s,
		Logger:         s.log,
	}
}

// pbOptions are the limits of Protocol Buffers.
func (s *settings) pbOptions(c *config.Config) pb.Options {
	return pb.Options{
		MaxConnections: c.MaxConnections,
		MaxFrames:      int64(c.RequestMemorySize(s.memoryLimit(c))),
		IdleTimeout:    c.PBIdleTimeout,
		ReadGrace:      c.ReadTimeout,
		WriteGrace:     c.WriteTimeout,
		Slowest:        int64(c.SlowestClient),
		AllowsLists:    s.door.AllowsLists,
		TLS:            s.clientTLS(),
		Logger:         s.log,
	}
}

// Settings implements httpd.Settings.
func (s *settings) Settings() api.Settings {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all api.Settings
	if s.node != nil {
		all.Node = s.node.Name()
	}
	for _, x := range s.config.Settings() {
		all.Settings = append(all.Settings, s.show(s.config, x))
	}
	return all
}

// Set implements httpd.Settings.
func (s *settings) Set(name, value string) (api.Setting, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := s.config.Set(name, value)
	if err != nil {
		return api.Setting{}, &badSetting{err}
	}
	if err := s.apply(next); err != nil {
		return api.Setting{}, &badSetting{err}
	}
	s.config = next
	set := s.show(next, next.Setting(name))
	s.log.Info("an option is set until the next start", "option", name, "value", set.Value)
	return set, nil
}

// badSetting is a value that was not set.
type badSetting struct{ error }

// Unwrap is why.
func (e *badSetting) Unwrap() error { return e.error }

// Is makes errors.Is(err, kv.ErrInvalid) true.
func (e *badSetting) Is(target error) bool { return target == kv.ErrInvalid }

// show is an option for the one who has asked.
func (s *settings) show(c *config.Config, x config.Setting) api.Setting {
	set := api.Setting{Name: x.Option.Name, Value: x.Value, Source: string(x.Source), Where: x.Where, Live: x.Option.Live}
	limit := s.memoryLimit(c)
	switch {
	case x.Option.Name == "memory-limit" && c.MemoryLimit == 0 && limit > 0:
		set.Effective = limit.String()
	case x.Option.Name == "cache" && c.Cache == 0:
		set.Effective = c.CacheSize(limit).String()
	case x.Option.Name == "request-memory" && c.RequestMemory == 0:
		set.Effective = c.RequestMemorySize(limit).String()
	}
	return set
}
