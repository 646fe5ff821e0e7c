package config

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tanodb/tanodb/kv"
)

var update = flag.Bool("update", false, "write docs/configuration.md anew")

// samples are values of each option: two that differ, as they are printed; some that are
// read and printed otherwise; and some that are refused, with a part of why.
var samples = map[string]struct {
	two   [2]string
	other map[string]string
	bad   map[string]string
}{
	"dir":        {two: [2]string{"/a", "b c"}},
	"name":       {two: [2]string{"n1", "N_2.x-y"}, bad: map[string]string{"n 1": "A-Z a-z 0-9 . _ -", "ñ": "1 to 64", strings.Repeat("n", 65): "1 to 64"}},
	"durability": {two: [2]string{"interval", "sync"}, bad: map[string]string{"never": "one of sync, interval", "": "one of"}},
	"drain":      {two: [2]string{"1s", "0s"}, other: map[string]string{"90s": "1m30s", "60m": "1h"}, bad: map[string]string{"10": "with its unit", "-1s": "from 0s to 1h", "2h": "from 0s to 1h"}},
	"http":       {two: [2]string{"h:1", "[::1]:65535"}, bad: map[string]string{"h": "HOST:PORT", "h:x": "ports are from 0 to 65535", "h:65536": "ports are"}},
	"pb":         {two: [2]string{"h:1", "off"}, bad: map[string]string{"on": "or off"}},
	"listen":     {two: [2]string{"h:1", ":2"}, bad: map[string]string{"h": "HOST:PORT"}},
	"advertise":  {two: [2]string{"h:1", "h:2"}, bad: map[string]string{"h": "HOST:PORT"}},
	"bootstrap": {two: [2]string{"a=h:1,b=h:2", "c=h:3"}, other: map[string]string{" a=h:1 ,": "a=h:1"},
		bad: map[string]string{"a": "NAME=HOST:PORT", "=h:1": "NAME=HOST:PORT", "a=h": "HOST:PORT", "a=h:99999": "ports are", "a b=h:1": "A-Z a-z 0-9 . _ -"}},
	"join":         {two: [2]string{"h:1,h:2", "h:3"}, bad: map[string]string{"h:1,h": `has "h"`}},
	"auto-join":    {two: [2]string{"h:1", "h:3"}, bad: map[string]string{"h": "HOST:PORT"}},
	"cluster-name": {two: [2]string{"shop", "shop-test"}, bad: map[string]string{`my shop`: "A-Z a-z 0-9 . _ -"}},
	"zone":         {two: [2]string{"a", "b-1"}, bad: map[string]string{`b"c`: "A-Z a-z 0-9 . _ -"}},
	"weight":       {two: [2]string{"50", "0"}, bad: map[string]string{"-1": "is -1; it must be from 1", "x": "whole number"}},
	"partitions":   {two: [2]string{"8", "65536"}, bad: map[string]string{"7": "a power of two from 8 to 65536", "9": "a power of two", "131072": "a power of two", "4": "a power of two"}},
	"replicas":     {two: [2]string{"1", "64"}, bad: map[string]string{"-1": "from 1 to 64, or 0", "65": "from 1 to 64"}},

	"tls-dir":         {two: [2]string{"a", "b"}},
	"tls-cert":        {two: [2]string{"a", "b"}},
	"tls-key":         {two: [2]string{"a", "b"}},
	"tls-ca":          {two: [2]string{"a", "b"}},
	"client-tls-cert": {two: [2]string{"a", "b"}},
	"client-tls-key":  {two: [2]string{"a", "b"}},
	"client-tls-ca":   {two: [2]string{"a", "b"}},
	"insecure":        {two: [2]string{"true", "false"}},
	"allowed-hosts": {two: [2]string{"db.example,n1", "_x-1.internal"},
		bad: map[string]string{"db.example:8098": "without a port", "https://db.example": "a host is a name", "*.example": "a host is a name", "a b": "a host is a name", "[::1]": "a host is a name"}},

	"memory-limit":   {two: [2]string{"1GiB", "64MiB"}, other: map[string]string{"1073741824": "1GiB"}, bad: map[string]string{"1MiB": "from 64MiB to 16TiB, or 0: what GOMEMLIMIT", "17TiB": "from 64MiB"}},
	"cache":          {two: [2]string{"1MiB", "2GiB"}, other: map[string]string{"64000 KB": "62500KiB"}, bad: map[string]string{"256": "is 256; it must be from 1MiB", "-1": "not a number of bytes", "9999999TiB": "not a number of bytes"}},
	"request-memory": {two: [2]string{"1MiB", "0"}, bad: map[string]string{"1": "from 1MiB"}},

	"max-requests":    {two: [2]string{"1", "2"}, bad: map[string]string{"0": "from 1 to 1000000", "1e3": "whole number"}},
	"max-connections": {two: [2]string{"1", "2"}, bad: map[string]string{"0": "from 1"}},
	"max-object":      {two: [2]string{"1MiB", "1KiB"}, bad: map[string]string{"51MiB": "from 1KiB to 50MiB", "0": "from 1KiB"}},
	"max-siblings":    {two: [2]string{"1", "99"}, bad: map[string]string{"0": "from 1 to 100", "101": "from 1"}},
	"allow-key-lists": {two: [2]string{"false", "true"}, other: map[string]string{"0": "false"}, bad: map[string]string{"no": "true or false", "": "true or false"}},
	"bucket-requests": {two: [2]string{"1", "0"}, bad: map[string]string{"-1": "or 0: no limit"}},
	"bucket-bytes":    {two: [2]string{"1KiB", "0"}, bad: map[string]string{"1": "from 1KiB"}},
	"bucket-limits": {two: [2]string{"logs=100:1MiB,maps/c=0:1KiB", "a%2Fb=1:0"},
		bad: map[string]string{"logs": "[TYPE/]BUCKET", "logs=1": "[TYPE/]BUCKET", "logs=x:1": "number of requests", "logs=-1:1": "number of requests", "logs=1:x": "number of bytes", "=1:1": "zero-length", "%=1:1": "percent"}},
	"user-requests": {two: [2]string{"1", "0"}, bad: map[string]string{"-1": "or 0: no limit"}},
	"user-bytes":    {two: [2]string{"1KiB", "0"}, bad: map[string]string{"1": "from 1KiB"}},
	"user-limits": {two: [2]string{"web1=100:1MiB,job=0:1KiB", "a%3Db=1:0"},
		bad: map[string]string{"web1": "USER=REQUESTS:BYTES", "web1=1": "USER=REQUESTS:BYTES", "web1=x:1": "number of requests", "web1=-1:1": "number of requests", "web1=1:x": "number of bytes", "=1:1": "USER=REQUESTS:BYTES", "%=1:1": "percent"}},

	"http-header-timeout": {two: [2]string{"1s", "1m"}, bad: map[string]string{"0s": "from 1ms to 1h"}},
	"http-idle-timeout":   {two: [2]string{"1s", "1m"}, bad: map[string]string{"0s": "from 1ms to 24h"}},
	"pb-idle-timeout":     {two: [2]string{"1s", "1m"}, bad: map[string]string{"25h": "from 1ms to 24h"}},
	"read-timeout":        {two: [2]string{"1s", "1m"}, bad: map[string]string{"0s": "from 1ms"}},
	"write-timeout":       {two: [2]string{"1s", "1m"}, bad: map[string]string{"0s": "from 1ms"}},
	"slowest-client":      {two: [2]string{"1KiB", "1MiB"}, bad: map[string]string{"1": "from 1KiB to 1GiB"}},

	"transfer-rate":    {two: [2]string{"1MiB", "0"}, bad: map[string]string{"fast": "is not a number of bytes"}},
	"repair-every":     {two: [2]string{"1s", "30m"}, bad: map[string]string{"1ms": "from 1s", "0s": "from 1s"}},
	"repair-rate":      {two: [2]string{"0", "1MiB"}, bad: map[string]string{"2TiB": "to 1TiB"}},
	"repair-objects":   {two: [2]string{"0", "5"}, bad: map[string]string{"-5": "or 0: no limit"}},
	"max-clock-offset": {two: [2]string{"10ms", "1s"}, bad: map[string]string{"9ms": "from 10ms"}},

	"log-level":      {two: [2]string{"debug", "warn"}, bad: map[string]string{"loud": "one of debug, info, warn, error"}},
	"log-format":     {two: [2]string{"json", "text"}, bad: map[string]string{"xml": "one of text, json"}},
	"slow-request":   {two: [2]string{"250ms", "0s"}, other: map[string]string{"1000ms": "1s"}, bad: map[string]string{"1": "with its unit", "2h": "from 1ms to 1h, or 0"}},
	"trace-endpoint": {two: [2]string{"http://c:4318", "https://c/v1/traces"}, bad: map[string]string{"c:4318": "a URL such as", "ftp://c": "a URL such as", "http://u:p@c": "no password"}},
	"trace-ratio":    {two: [2]string{"0.5", "1"}, bad: map[string]string{"2": "from 0 to 1", "-0.1": "from 0 to 1", "NaN": "from 0 to 1", "x": "from 0 to 1"}},
	"pprof":          {two: [2]string{"true", "false"}, bad: map[string]string{"2": "true or false"}},
}

// company is what an option needs beside it.
var company = map[string][]Given{
	"join":      {{"listen", "h:9"}},
	"auto-join": {{"listen", "h:9"}},
	"tls-cert":  {{"tls-key", "k"}, {"tls-ca", "c"}},
	"tls-key":   {{"tls-cert", "k"}, {"tls-ca", "c"}},
	"tls-ca":    {{"tls-cert", "k"}, {"tls-key", "c"}},

	"client-tls-cert": {{"client-tls-key", "k"}},
	"client-tls-key":  {{"client-tls-cert", "k"}},
	"client-tls-ca":   {{"client-tls-cert", "k"}, {"client-tls-key", "c"}},
}

func TestEachFieldHasOneOption(t *testing.T) {
	var s Server
	at := map[any]string{}
	names := map[string]bool{}
	for _, o := range Options {
		if names[o.Name] || o.Name != strings.ToLower(o.Name) {
			t.Errorf("the name %q is taken, or not in small letters", o.Name)
		}
		names[o.Name] = true
		p := o.field(&s)
		if other := at[p]; other != "" {
			t.Errorf("%s has the field of %s", o.Name, other)
		}
		at[p] = o.Name
		if !strings.HasSuffix(o.Help, ".") || o.Group == "" || o.Sign == "" && !o.IsBool() {
			t.Errorf("%s: the help is no sentence, or there is no group or sign", o.Name)
		}
		if problem := o.parse(p, o.Default); problem != "" && o.Default != "" {
			t.Errorf("the default of %s %s", o.Name, problem)
		}
		if got := format(p); got != o.Default {
			t.Errorf("the default of %s is %q, printed as %q", o.Name, o.Default, got)
		}
		if _, ok := samples[o.Name]; !ok {
			t.Errorf("%s has no samples", o.Name)
		}
	}
	if n := reflect.TypeFor[Server]().NumField(); n != len(Options) || len(samples) != n {
		t.Errorf("%d fields, %d options, %d samples", n, len(Options), len(samples))
	}
}

func TestEveryOptionIsReadAndHeldToItsRange(t *testing.T) {
	read := func(name, text string) (string, error) {
		c, err := Load(Input{Flags: append(slices.Clone(company[name]), Given{name, text})})
		o, _ := Lookup(name)
		return format(o.field(&c.Server)), err
	}
	for name, s := range samples {
		good := map[string]string{s.two[0]: s.two[0], s.two[1]: s.two[1]}
		for text, want := range s.other {
			good[text] = want
		}
		for text, want := range good {
			if got, err := read(name, text); got != want || err != nil {
				t.Errorf("%s %q: %q, error %v, want %q", name, text, got, err, want)
			}
		}
		for text, want := range s.bad {
			_, err := read(name, text)
			if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "--"+name+" ") {
				t.Errorf("%s %q: %v, want --%s … %s", name, text, err, name, want)
			}
		}
	}
}

func TestTheLimitsOfNumbersAreThemselvesInside(t *testing.T) {
	for _, o := range Options {
		var s Server
		switch o.field(&s).(type) {
		case *string, *bool, *[]string:
			continue
		}
		text := func(v int64) string {
			switch o.field(&s).(type) {
			case *time.Duration:
				return time.Duration(v).String()
			}
			return fmt.Sprint(v)
		}
		for _, v := range []int64{o.Min, o.Max} {
			if problem := o.parse(o.field(&s), text(v)); problem != "" {
				t.Errorf("%s %s", o.Name, problem)
			}
		}
		for _, v := range []int64{o.Min - 1, o.Max + 1} {
			if o.parse(o.field(&s), text(v)) == "" && (v != 0 || o.Zero == "") {
				t.Errorf("%s takes %d, outside of %s", o.Name, v, o.Range())
			}
		}
	}
}

// Each option, given in some of the sources: the strongest wins.
func TestPrecedence(t *testing.T) {
	for _, o := range Options {
		s := samples[o.Name]
		value := func(i int) string { return s.two[i%2] } // the file and flags have the first one
		for given := range 8 {
			file, env, flag := given&1 != 0, given&2 != 0, given&4 != 0
			in := Input{Path: "f.toml", Flags: slices.Clone(company[o.Name])}
			want := Setting{Option: o, Value: o.Default, Source: Default}
			if file {
				in.Text = []byte(o.Name + " = " + tomlOf(t, o, value(0)) + "\n")
				want.Value, want.Source, want.Where = value(0), File, fmt.Sprintf("f.toml:1:%d: %s", len(o.Name)+4, o.Name)
			}
			if env {
				in.Env = func(name string) (string, bool) { return value(1), name == o.Env() }
				want.Value, want.Source, want.Where = value(1), Environment, o.Env()
			}
			if flag {
				in.Flags = append(in.Flags, Given{o.Name, value(2)})
				want.Value, want.Source, want.Where = value(2), Flag, "--"+o.Name
			}
			if given == 0 {
				in.Flags = nil // without it, it needs no company
			}
			c, err := Load(in)
			if err != nil {
				t.Errorf("%s, given in %03b: %v", o.Name, given, err)
				continue
			}
			if got := c.Setting(o.Name); got.Value != want.Value || got.Source != want.Source || got.Where != want.Where {
				t.Errorf("%s, given in %03b: %q from %s, %s, want %q from %s, %s", o.Name, given, got.Value, got.Source, got.Where, want.Value, want.Source, want.Where)
			}
		}
	}
}

// tomlOf is a value as the file has it.
func tomlOf(t *testing.T, o Option, text string) string {
	t.Helper()
	var s Server
	if problem := o.parse(o.field(&s), text); problem != "" {
		t.Fatalf("%s %s", o.Name, problem)
	}
	return literal(o.field(&s))
}

func TestAnEmptyVariableIsNotGiven(t *testing.T) {
	c, err := Load(Input{Env: func(name string) (string, bool) { return "", true }})
	if err != nil || c.Setting("cache").Source != Default {
		t.Errorf("error %v, %+v", err, c.Setting("cache"))
	}
}

func TestFilesWithProblems(t *testing.T) {
	for text, want := range map[string][]string{
		"loglevel = \"info\"":   {`f:1:1: there is no option "loglevel"; is it "log-level" that is meant?`},
		"\n\n  repair_rate = 0": {`f:3:3: there is no option "repair_rate"; is it "repair-rate" that is meant?`},
		"colour = 1":            {`f:1:1: there is no option "colour"; tanodb config init prints all`},
		"log.level = \"info\"":  {`f:1:1: there is no option "log.level"; is it "log-level" that is meant?`},
		"[log]\nlevel = 1":      {`f:1:2: there are no tables`, `f:2:1: there is no option "level"`},
		"[[x]]":                 {`f:1:3: there are no tables`},
		"drain = 10\ncache = \"1KiB\"\npprof = \"yes\"": {"f:1:9: drain has a value of another kind; it must be a duration, such as \"10s\"", "f:2:9: cache is 1KiB; it must be from 1MiB", "f:3:9: pprof has a value of another kind; it must be a true or false, such as false"},
		"zone = \"a\"\nzone = \"b\"":                    {"f:2:1: zone stands here a second time; it is in line 1 too"},
		"join = \"h:1\"":                                {`f:1:8: join has a value of another kind; it must be a list, such as ["HOST:PORT"]`},
		"join = [1]":                                    {"no text in quotes"},
		"join = [\"h:1,h:2\"]":                          {"with a comma"},
		"weight = \"5\"":                                {"of another kind; it must be a number, such as 0"},
		"weight = 1.5":                                  {"of another kind"},
		"weight = 99999999999999999999":                 {"no number of 64 bits"},
		"weight = 1e3":                                  {"of another kind"},
		"zone = 1979-05-27":                             {"of another kind"},
		"zone = {a = 1}":                                {"of another kind"},
		"weight = -1\nzone = \"a":                       {"f:1:10: weight is -1", "f:2:", "this is not TOML"},
		"zone":                                          {"f:1:4: this is not TOML: expected '='"},
		"zone = ":                                       {"f:1:", "this is not TOML"},
		"tls-key = \"k\"":                               {"--tls-cert, f:1:11: tls-key and --tls-ca are needed together"},
		"tls-dir = \"d\"\ntls-ca = \"c\"\ntls-cert = \"c\"\ntls-key = \"c\"": {"contradict each other: the directory"},
		"client-tls-key = \"k\"":                              {"--client-tls-cert and f:1:18: client-tls-key are needed together"},
		"client-tls-ca = \"k\"":                               {"client-tls-ca needs --client-tls-cert"},
		"join = [\"h:1\"]":                                    {"f:1:8: join needs --listen"},
		"join = [\"h:1\"]\nauto-join = [\"h:1\"]":             {"contradict each other: the joining"},
		"join = [\"h:1\"]\nbootstrap = [\"a=h:1\"]":           {"f:2:13: bootstrap and f:1:8: join contradict each other"},
		"dir = \"\"":                                          {"f:1:7: dir is empty"},
		"bootstrap = [\"a=h:1\", \"a=h:2\"]":                  {`f:1:13: bootstrap: member 2, "a", is named twice`},
		"bootstrap = [\"a=h:1\", \"b=h:1\"]":                  {"which is that of a"},
		"http = \"127.0.0.1:8087\"":                           {`f:1:8: http and --pb are both 127.0.0.1:8087`},
		"http = \"[::1]:1\"\nlisten = \"[::1]:1\"":            {`f:1:8: http and f:2:10: listen are both [::1]:1`},
		"pb = \"h:1\"\nlisten = \":1\"":                       {`f:1:6: pb is h:1 and f:2:10: listen is :1, which is the same port`},
		"name = \"a\"\npb = \"h:1\"\nbootstrap = [\"a=h:1\"]": {`f:2:6: pb and f:3:13: bootstrap are both h:1`},
		"bucket-limits = [\"b=1:0\", \"default/b=2:0\"]":      {`two limits for the bucket "b"`},
		"user-limits = [\"u=1:0\", \"%75=2:0\"]":              {`two limits for the user "u"`},
		"\xff = 1":                                            {"this is not TOML"},
		"zone = \"\xff\"":                                     {"this is not TOML"},
		strings.Repeat("x = 1\n", maxProblems+1):              {"more problems than are worth telling"},
		strings.Repeat("# 45678\n", MaxFile/8) + "# more.":    {"a configuration has at most 1048576"},
	} {
		_, err := Load(Input{Path: "f", Text: []byte(text)})
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%.60q: %v\nwant %s", text, err, w)
			}
		}
	}
}

func TestFilesOfOtherEditors(t *testing.T) {
	c, err := Load(Input{Path: "f", Text: []byte("\ufeffzone = 'a'\r\nweight = 0x10\r\nmax-requests = 1_000 # x")})
	if err != nil || c.Zone != "a" || c.Weight != 16 || c.MaxRequests != 1000 {
		t.Errorf("error %v, %+v", err, c.Server)
	}
}

// Whoever can be reached by strangers must be protected, or say that he wants it so.
func TestExposed(t *testing.T) {
	for line, want := range map[string]string{
		"":                            "",
		"http=127.0.0.1:1 pb=[::1]:1": "",
		"http=localhost:1":            "",
		"http=127.7.7.7:1 listen=[::ffff:127.0.0.1]:1": "",
		"http=:1":                           "--http is :1",
		"http=0.0.0.0:1":                    "--http is 0.0.0.0:1",
		"http=db.example:1":                 "--http is db.example:1",
		"pb=10.0.0.1:1":                     "--pb is 10.0.0.1:1",
		"pb=off":                            "",
		"listen=10.0.0.1:1":                 "--listen is 10.0.0.1:1",
		"name=a bootstrap=a=10.0.0.1:1":     "--bootstrap is 10.0.0.1:1",
		"name=b bootstrap=a=10.0.0.1:1":     "",
		"http=:1 listen=:2 insecure=true":   "",
		"http=:1 pb=:3 listen=:2 tls-dir=d": "",
		"http=:1 listen=127.0.0.1:2 client-tls-cert=c client-tls-key=k": "",
		"http=127.0.0.1:1 listen=:2 client-tls-cert=c client-tls-key=k": "--listen is :2",
		"http=:1 listen=:2 tls-cert=c tls-key=k tls-ca=a":               "--http is :1",
	} {
		var flags []Given
		for _, word := range strings.Fields(line) {
			name, text, _ := strings.Cut(word, "=")
			flags = append(flags, Given{name, text})
		}
		c, err := Load(Input{Flags: flags})
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		switch err := c.Exposed(); {
		case (err == nil) != (want == ""):
			t.Errorf("%q: %v, want %q", line, err, want)
		case err != nil && (!strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "--insecure")):
			t.Errorf("%q: %v, want %q", line, err, want)
		}
	}
}

func TestAllProblemsOfAllSourcesAtOnce(t *testing.T) {
	_, err := Load(Input{
		Path: "f", Text: []byte("cache = 1\nweight = -1"),
		Env:   func(name string) (string, bool) { return "loud", name == "TANODB_LOG_LEVEL" },
		Flags: []Given{{"drain", "x"}, {"dran", "1s"}},
	})
	var ps Problems
	if !errors.As(err, &ps) {
		t.Fatal(err)
	}
	want := Problems{
		{"f", 1, 9, "cache is 1; it must be " + mustLookup(t, "cache").Range()},
		{"f", 2, 10, "weight is -1; it must be from 1 to 1000000, or 0: 100"},
		{"TANODB_LOG_LEVEL", 0, 0, `is "loud"; it must be one of debug, info, warn, error`},
		{"--drain", 0, 0, `is "x", which is not a time with its unit, such as 500ms, 10s or 1h30m`},
		{"--dran", 0, 0, `there is no option "dran"; is it "drain" that is meant?`},
	}
	if diff := cmp.Diff(want, ps); diff != "" {
		t.Error(diff)
	}
}

func mustLookup(t *testing.T, name string) *Option {
	t.Helper()
	o, ok := Lookup(name)
	if !ok {
		t.Fatalf("there is no option %s", name)
	}
	return &o
}

func TestTheFileOfInitIsWholeAndHasTheDefaults(t *testing.T) {
	var set []string
	for line := range strings.Lines(Init()) {
		if name, _, ok := strings.Cut(strings.TrimPrefix(line, "#"), " = "); ok && line[0] == '#' && line[1] != ' ' {
			set = append(set, name)
			continue
		}
		if strings.TrimSpace(line) != "" && line[0] != '#' {
			t.Errorf("the line %q sets something", line)
		}
	}
	if len(set) != len(Options) {
		t.Errorf("it has %d options of %d", len(set), len(Options))
	}
	whole := Init()
	for _, name := range set {
		whole = strings.Replace(whole, "\n#"+name+" = ", "\n"+name+" = ", 1)
	}
	c, err := Load(Input{Path: "f", Text: []byte(whole)})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(newConfig().Server, c.Server); diff != "" {
		t.Error(diff)
	}
	for _, s := range c.Settings() {
		if s.Source != File {
			t.Errorf("%s comes from %s", s.Option.Name, s.Source)
		}
	}
}

func TestSet(t *testing.T) {
	c, err := Load(Input{Flags: []Given{{"repair-rate", "1MiB"}}})
	if err != nil {
		t.Fatal(err)
	}
	next, err := c.Set("repair-rate", "2MiB")
	if err != nil || next.RepairRate != 2<<20 || next.Setting("repair-rate").Source != Live {
		t.Errorf("error %v, %v", err, next.Setting("repair-rate"))
	}
	if c.RepairRate != 1<<20 || c.Setting("repair-rate").Source != Flag {
		t.Error("the configuration itself has changed")
	}
	for _, bad := range [][3]string{
		{"cache", "1GiB", "cache cannot change while the node runs: change it where it is set, and restart the node"},
		{"repair-rat", "1", `is it "repair-rate"`},
		{"log-level", "loud", `log-level is "loud"; it must be one of`},
		{"bucket-limits", "a=1:1,a=2:2", `bucket-limits has two limits for the bucket "a"`},
	} {
		if _, err := c.Set(bad[0], bad[1]); err == nil || !strings.Contains(err.Error(), bad[2]) {
			t.Errorf("%s %s: %v", bad[0], bad[1], err)
		}
	}
}

func TestSecretsAreHidden(t *testing.T) {
	was := Options
	t.Cleanup(func() { Options = was })
	Options = slices.Clone(was)
	for i := range Options {
		Options[i].Secret = Options[i].Name == "zone" || Options[i].Name == "name"
	}
	c, err := Load(Input{Flags: []Given{{"zone", "sesame"}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Setting("zone").Value; got != hidden {
		t.Errorf("it is shown as %q", got)
	}
	if got := c.Setting("name").Value; got != "" {
		t.Errorf("one that is not set is shown as %q", got)
	}
}

func TestLists(t *testing.T) {
	c, err := Load(Input{Flags: []Given{{"bootstrap", "a=h:1,b=h:2"}, {"bucket-limits", "logs=100:1MiB,t/a%2Fb=0:5"}, {"user-limits", "web1=100:1MiB,a%3Db=0:5"}}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Member{{"a", "h:1"}, {"b", "h:2"}}, c.Members()); diff != "" {
		t.Error(diff)
	}
	want := []BucketLimit{{kv.Bucket{Name: "logs"}, 100, 1 << 20}, {kv.Bucket{Type: "t", Name: "a/b"}, 0, 5}}
	if diff := cmp.Diff(want, c.LimitsOfBuckets()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]UserLimit{{"web1", 100, 1 << 20}, {"a=b", 0, 5}}, c.LimitsOfUsers()); diff != "" {
		t.Error(diff)
	}
}

func TestSizesFollowTheMemoryLimit(t *testing.T) {
	var s Server
	for limit, want := range map[Bytes][2]Bytes{
		0:        {256 << 20, 1 << 30},
		1 << 30:  {256 << 20, 128 << 20},
		64 << 20: {16 << 20, 8 << 20},
		64 << 30: {16 << 30, 1 << 30},
		1 << 20:  {1 << 20, 1 << 20},
	} {
		if got := [2]Bytes{s.CacheSize(limit), s.RequestMemorySize(limit)}; got != want {
			t.Errorf("of %v: %v, want %v", limit, got, want)
		}
	}
	s.Cache, s.RequestMemory = 5<<20, 6<<20
	if s.CacheSize(1<<30) != 5<<20 || s.RequestMemorySize(1<<30) != 6<<20 {
		t.Error("what is given does not hold")
	}
}

func TestReferenceIsFresh(t *testing.T) {
	const page = "../../docs/configuration.md"
	if *update {
		if err := os.WriteFile(page, []byte(Reference()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Reference(), string(b)); diff != "" {
		t.Errorf("docs/configuration.md is stale: go test ./internal/config -run Reference -update\n%s", diff)
	}
}

// A file either has problems, each at a place of the file, or gives a configuration that
// is the same when it is written and read again.
func FuzzFile(f *testing.F) {
	f.Add([]byte(Init()))
	f.Add([]byte(strings.ReplaceAll(Init(), "\n#", "\n")))
	f.Add([]byte("join = [\"h:1\"] # x\r\nlisten = 'h:2'\nweight = 0x10\nrepair-every=\"\"\"1h\"\"\"\n"))
	f.Add([]byte("zone = \"\\u00e9\\\"\"\n[a.b]\n\"c d\".e = {f = [1, [2]]}"))
	f.Add([]byte("zone = \"a"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Load(Input{Path: "f", Text: text})
		var ps Problems
		if errors.As(err, &ps) {
			lines := strings.Split(string(text), "\n")
			for _, p := range ps {
				if p.Line > len(lines) || p.Line > 0 && (p.Column < 1 || p.Column > len(lines[p.Line-1])+1) {
					t.Fatalf("%v is outside of the file", p)
				}
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		var again strings.Builder
		for _, o := range Options {
			fmt.Fprintf(&again, "%s = %s\n", o.Name, literal(o.field(&c.Server)))
		}
		c2, err := Load(Input{Path: "f", Text: []byte(again.String())})
		if err != nil {
			t.Fatalf("%v\n%s", err, again.String())
		}
		if diff := cmp.Diff(c.Server, c2.Server); diff != "" {
			t.Fatal(diff)
		}
	})
}

// A variable that only nearly is one of an option is told of; others that begin alike, such as
// those that Kubernetes makes for its services, are not.
func TestStrays(t *testing.T) {
	got := Strays([]string{
		"TANODB_MEMORY_LIMIT=1GiB", "TANODB_MEMORY_LIMT=1GiB", "TANODB_LOGLEVEL=info", "tanodb_log_leve=x", "TANODB_LOG_LEVL=", "=C:=x", "PATH=x",
		"TANODB_CACHED=x", "TANODB_CA=x", "TANODB_PORT=tcp://10.0.0.1:8098", "TANODB_SERVICE_HOST=10.0.0.1", "TANODB_PORT_8098_TCP_ADDR=10.0.0.1", "TANODB_CLIENT_SERVICE_PORT_HTTP=8098",
	}, []string{"TANODB_CACHED"})
	want := []string{
		"TANODB_MEMORY_LIMT is of no option: is it TANODB_MEMORY_LIMIT that is meant?",
		"TANODB_LOGLEVEL is of no option: is it TANODB_LOG_LEVEL that is meant?",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
