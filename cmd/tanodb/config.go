package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/tanodb/tanodb/internal/config"
	"github.com/tanodb/tanodb/internal/server/api"
)

// settingsPath is where a server shows and changes its options.
const settingsPath = ownPrefix + "/settings"

type configCmd struct {
	Check configCheckCmd `cmd:"" help:"Say what is wrong with a file of options."`
	Print configPrintCmd `cmd:"" help:"Show the values of all options, and where each comes from."`
	Init  configInitCmd  `cmd:"" help:"Print a file of all options, as comments with their defaults."`
}

// Help is the long part of the command's help.
func (*configCmd) Help() string {
	return `An option of tanodb serve is a flag, a variable of the environment, and a key of a file of TOML. Flags beat the environment, the environment beats the file. All options are in docs/configuration.md.

    tanodb config init > tanodb.toml
    tanodb config check tanodb.toml
    tanodb serve --config tanodb.toml`
}

type configInitCmd struct{}

// Help is the long part of the command's help.
func (*configInitCmd) Help() string {
	return `Example:

    tanodb config init > tanodb.toml`
}

// Run prints the file.
func (*configInitCmd) Run(a *app) error {
	_, err := io.WriteString(a.stdout, config.Init())
	return err
}

type configCheckCmd struct {
	File string `arg:"" optional:"" help:"The file; none: that of TANODB_CONFIG." env:"TANODB_CONFIG"`
}

// Help is the long part of the command's help.
func (*configCheckCmd) Help() string {
	return `The file is read as tanodb serve would read it, with the environment and without flags. All that is wrong is told at once, by line and column.

Example:

    tanodb config check tanodb.toml`
}

// checked is what came of a check.
type checked struct {
	File     string          `json:"file"`
	Set      int             `json:"set"` // options that are not at their default
	Problems config.Problems `json:"problems"`
}

// String is a line.
func (c checked) String() string {
	return fmt.Sprintf("%s is fine: %s set by it or the environment\n", c.File, plural(c.Set, "option"))
}

// Run checks the file.
func (c *configCheckCmd) Run(a *app, k *kong.Kong) error {
	if c.File == "" {
		return usagef("no file is given: tanodb config check FILE")
	}
	for _, text := range strays(k) {
		fmt.Fprintln(a.stderr, "tanodb:", text)
	}
	text, err := readConfig(c.File)
	if err != nil {
		return err
	}
	loaded, err := config.Load(config.Input{Path: c.File, Text: text, Env: os.LookupEnv})
	if err == nil {
		err = loaded.Exposed()
	}
	out := checked{File: c.File, Problems: config.Problems{}}
	if errors.As(err, &out.Problems) {
		if a.json {
			return errors.Join(err, a.printJSON(out))
		}
		return err
	}
	for _, s := range loaded.Settings() {
		if s.Source != config.Default {
			out.Set++
		}
	}
	return a.print(out)
}

type configPrintCmd struct {
	Node string `help:"Where a node serves HTTP: what it goes by now. None: what tanodb serve would go by with these flags, this environment and this file." placeholder:"HOST:PORT"`
	serverFlags
}

// Help is the long part of the command's help.
func (*configPrintCmd) Help() string {
	return `Without --node it takes the flags of tanodb serve. Secrets are hidden. A value in brackets is what the one before it stands for.

Example:

    tanodb config print --config tanodb.toml
    tanodb config print --node 127.0.0.1:8098`
}

// Run prints the values.
func (c *configPrintCmd) Run(a *app) error {
	if c.Node != "" {
		if len(c.given()) > 0 {
			return usagef("--node asks a node that runs; the flags of tanodb serve say nothing there")
		}
		base, err := a.base(c.Node)
		if err != nil {
			return err
		}
		var all settingsTable
		if err := a.askNode(base, http.MethodGet, settingsPath, nil, &all); err != nil {
			return err
		}
		return a.print(all)
	}
	loaded, err := c.load()
	if err != nil {
		return err
	}
	// None runs, and yet what it would come to can be said.
	s := settings{config: loaded, born: debug.SetMemoryLimit(-1)}
	return a.print(settingsTable{s.Settings()})
}

// askNode sends JSON to one server and reads its answer.
func (a *app) askNode(base, method, path string, order, into any) error {
	r := request{method: method, path: path}
	if order != nil {
		body, err := json.Marshal(order)
		if err != nil {
			return err
		}
		r.body, r.header = body, http.Header{"Content-Type": {"application/json"}}
	}
	ctx, cancel := a.requestContext()
	defer cancel()
	ans, err := a.roundTrip(ctx, base, r)
	if err != nil {
		return err
	}
	return ans.decode(into)
}

// settingsTable are options for people.
type settingsTable struct{ api.Settings }

// String is a line for each.
func (s settingsTable) String() string {
	t := newTable("OPTION", "VALUE", "FROM")
	for _, x := range s.Settings.Settings {
		value := x.Value
		if value == "" {
			value = "-"
		}
		if x.Effective != "" {
			value += " (" + x.Effective + ")"
		}
		from := x.Source
		if x.Where != "" && x.Source != string(config.Live) {
			from += ": " + strings.TrimSuffix(x.Where, ": "+x.Name)
		}
		t.row(x.Name, value, from)
	}
	return t.String()
}

type setCmd struct {
	Name  string   `arg:"" help:"The option."`
	Value string   `arg:"" help:"Its value, as a flag of tanodb serve would have it."`
	Node  []string `help:"Where the nodes serve HTTP that are to have it; none: the one of --addr." placeholder:"HOST:PORT,…"`
}

// Help is the long part of the command's help.
func (*setCmd) Help() string {
	return `Changes an option of a node while it runs, if that can be: docs/configuration.md says which. A restart forgets it; to keep it, change it where tanodb serve reads it too.

Example:

    tanodb set log-level debug
    tanodb set repair-rate 32MiB --node 10.0.0.1:8098,10.0.0.2:8098`
}

// Run asks each of the nodes.
func (c *setCmd) Run(a *app) error {
	bases := a.addrs[:1]
	if len(c.Node) > 0 {
		bases = nil
		for _, node := range c.Node {
			base, err := a.base(node)
			if err != nil {
				return err
			}
			bases = append(bases, base)
		}
	}
	var done setDone
	var errs []error
	for _, base := range bases {
		set := nodeSetting{Addr: base}
		if err := a.askNode(base, http.MethodPost, settingsPath+"/set", api.SetOrder{Name: c.Name, Value: c.Value}, &set.Setting); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", base, err))
			continue
		}
		done.Set = append(done.Set, set)
	}
	if len(done.Set) == 0 {
		return errors.Join(errs...)
	}
	return errors.Join(a.print(done), errors.Join(errs...))
}

// nodeSetting is an option as a node has taken it.
type nodeSetting struct {
	Addr string `json:"addr"`
	api.Setting
}

// setDone are the nodes that have done as they were told.
type setDone struct {
	Set []nodeSetting `json:"set"`
}

// String is a line for each, and what to do next.
func (d setDone) String() string {
	var b bytes.Buffer
	for _, s := range d.Set {
		fmt.Fprintf(&b, "%s: %s is %s\n", s.Addr, s.Name, s.Value)
	}
	fmt.Fprintf(&b, "A restart forgets it: to keep it, change it where tanodb serve reads it too.\n")
	return b.String()
}
