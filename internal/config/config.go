// Package config is how a node is configured: one table of options (table.go), from
// which come the flags of tanodb serve, the variables of the environment, the keys
// of the file, what tanodb config prints, and docs/configuration.md.
//
// An option has one name everywhere:
//
//	--repair-every 10m                flag
//	TANODB_REPAIR_EVERY=10m           environment
//	repair-every = "10m"              file
//	tanodb set repair-every 10m       while the node runs, if the option is live
//
// A value that is set beats that of a flag, a flag the environment, the environment the
// file, and the file the default. What is wrong is wrong wherever it stands: a bad value in
// the file is reported although a flag replaces it, and all that is wrong at once.
package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Source is where a value comes from.
type Source string

// The sources, the weakest first.
const (
	Default     Source = "default"
	File        Source = "file"
	Environment Source = "environment"
	Flag        Source = "flag"
	Live        Source = "set" // by an operator, while the node runs; a restart forgets it
)

// Config is a whole configuration: a value for every option.
type Config struct {
	Server
	from map[string]origin // by option; absent: its default
}

// origin is where a value was given.
type origin struct {
	source Source
	where  string // "--cache", "TANODB_CACHE", "tanodb.toml:3:9: cache"
}

// Given is an option as a command line has it.
type Given struct{ Name, Text string }

// Input is all that a configuration is made of. The zero value gives the defaults.
type Input struct {
	Path  string                           // of the file, for messages
	Text  []byte                           // what it holds
	Env   func(name string) (string, bool) // nil: nothing is set; a variable that is empty is not, either
	Flags []Given
}

// Problem is something that is wrong with a configuration.
type Problem struct {
	Where  string `json:"where,omitempty"`  // the file, flag or variable
	Line   int    `json:"line,omitempty"`   // in the file, from 1; 0: none
	Column int    `json:"column,omitempty"` // in bytes, from 1
	Text   string `json:"problem"`
}

func (p Problem) String() string {
	switch {
	case p.Line > 0:
		return fmt.Sprintf("%s:%d:%d: %s", p.Where, p.Line, p.Column, p.Text)
	case p.Where != "":
		return p.Where + " " + p.Text
	}
	return p.Text
}

// Problems are all that is wrong, as an error.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// err is nil if nothing is wrong.
func (ps Problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// Load makes a configuration. The error is Problems: all that is wrong.
func Load(in Input) (*Config, error) {
	c := newConfig()
	problems := c.readFile(in.Path, in.Text)
	for _, o := range Options {
		if in.Env == nil {
			break
		}
		if text, ok := in.Env(o.Env()); ok && text != "" {
			problems = append(problems, c.give(o, text, origin{Environment, o.Env()})...)
		}
	}
	for _, g := range in.Flags {
		o, known := Lookup(g.Name)
		if !known {
			problems = append(problems, Problem{Where: "--" + g.Name, Text: unknown(g.Name)})
			continue
		}
		problems = append(problems, c.give(o, g.Text, origin{Flag, "--" + g.Name})...)
	}
	if len(problems) == 0 {
		problems = c.check() // values that are no values contradict nothing
	}
	return c, problems.err()
}

// newConfig has the defaults. A default that is no value of its option is a bug, which
// a test of the table finds.
func newConfig() *Config {
	c := &Config{from: map[string]origin{}}
	for _, o := range Options {
		_ = o.parse(o.field(&c.Server), o.Default)
	}
	return c
}

// give sets an option as one of the sources has it.
func (c *Config) give(o Option, text string, from origin) Problems {
	if problem := o.parse(o.field(&c.Server), text); problem != "" {
		return Problems{{Where: from.where, Text: problem}}
	}
	c.from[o.Name] = from
	return nil
}

// Set is the configuration with one of its live options changed. The error is Problems.
func (c *Config) Set(name, text string) (*Config, error) {
	o, known := Lookup(name)
	if !known {
		return nil, Problems{{Text: unknown(name)}}
	}
	if !o.Live {
		return nil, Problems{{Where: name, Text: "cannot change while the node runs: change it where it is set, and restart the node"}}
	}
	next := &Config{Server: c.Server, from: maps.Clone(c.from)}
	if problems := next.give(o, text, origin{Live, name}); len(problems) > 0 {
		return nil, problems
	}
	return next, next.check().err()
}

// Setting is an option with its value.
type Setting struct {
	Option Option
	Value  string // hidden if the option is secret
	Source Source
	Where  string // which flag, which line; empty: the default
}

// hidden is shown for a secret.
const hidden = "(hidden)"

// Settings are all options with their values, in the order of the table.
func (c *Config) Settings() []Setting {
	all := make([]Setting, 0, len(Options))
	for _, o := range Options {
		all = append(all, c.setting(o))
	}
	return all
}

// Setting is the one of that name; there must be such an option.
func (c *Config) Setting(name string) Setting {
	o, _ := Lookup(name)
	return c.setting(o)
}

func (c *Config) setting(o Option) Setting {
	from := c.from[o.Name]
	s := Setting{Option: o, Value: format(o.field(&c.Server)), Source: cmp.Or(from.source, Default), Where: from.where}
	if o.Secret && s.Value != "" {
		s.Value = hidden
	}
	return s
}

// Lookup is the option of that name.
func Lookup(name string) (Option, bool) {
	i := slices.IndexFunc(Options, func(o Option) bool { return o.Name == name })
	if i < 0 {
		return Option{}, false
	}
	return Options[i], true
}

// unknown says that there is no such option, and which may be meant.
func unknown(name string) string {
	text := fmt.Sprintf("there is no option %q", clip(name))
	near := nearest(name)
	if near == "" {
		return text + "; tanodb config init prints all"
	}
	return fmt.Sprintf("%s; is it %q that is meant?", text, near)
}

// clip is the beginning of a text from outside, for a message.
func clip(s string) string {
	const most = 64 // bytes
	return s[:min(len(s), most)]
}

// nearest is the option whose name is the least changed to this one; empty: none is
// near.
func nearest(name string) string {
	best, least := "", 1+max(2, len(name)/3)
	for _, o := range Options {
		if d := distance(clip(name), o.Name); d < least {
			best, least = o.Name, d
		}
	}
	return best
}

// The limits of what is taken for a slip of the hand in a variable's name.
const (
	leastStray = 5 // letters: of shorter names too many are near
	mostSlips  = 2
)

// Strays tells of variables whose names are nearly those of options, since they say nothing to a
// node, and somebody believes that they do. Environ is as of os.Environ; others are names
// that have a meaning elsewhere.
func Strays(environ, others []string) []string {
	var all []string
	for _, pair := range environ {
		variable, value, _ := strings.Cut(pair, "=")
		rest, ours := strings.CutPrefix(variable, "TANODB_")
		name := strings.ToLower(strings.ReplaceAll(rest, "_", "-"))
		if !ours || value == "" || len(name) < leastStray || slices.Contains(others, variable) {
			continue
		}
		near := nearest(name)
		if o, ok := Lookup(near); ok && near != name && distance(clip(name), near) <= mostSlips {
			all = append(all, fmt.Sprintf("%s is of no option: is it %s that is meant?", variable, o.Env()))
		}
	}
	return all
}

// distance is how many bytes are to be put in, taken out or replaced to turn a into b
// (Levenshtein's).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
