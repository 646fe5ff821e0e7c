// Command tanodb is all of TanoDB in one binary: the server, a development
// cluster, a client for every request, and a load generator.
//
//	tanodb serve        run a node; alone it is a whole database
//	tanodb dev          run a cluster of real processes on this machine
//	tanodb put B K V    write, and see which replicas have stored it
//	tanodb get B K      read the value
//	tanodb del B K      delete
//	tanodb keys B       list the keys of a bucket, or of each of its vnodes
//	tanodb data         read and change counters, sets, maps and their like
//	tanodb buckets      list the buckets that have keys
//	tanodb index B F V  find keys by what their values have in an index
//	tanodb ping         ask a partition, taken by chance, for a sign of life
//	tanodb status       show a node and the cluster as it sees it
//	tanodb cluster      show the members of a cluster, and change them
//	tanodb bucket-type  show bucket types, and change them
//	tanodb bucket       the same for the properties of one bucket
//	tanodb config       show and check the options of a node
//	tanodb set          change an option of a node that runs
//	tanodb backup       back a cluster up, check backups, and restore them
//	tanodb export       write the values of buckets as JSON lines or CSV
//	tanodb import       read such lines, and write their values
//	tanodb security     show and change who may do what
//	tanodb cert         make certificates for nodes and users, and show them
//	tanodb bench        load a cluster and measure it
//	tanodb version      print the version; completion and man print what packages hold
//	tanodb help         show the help of a command
//
// Every command prints for people, or one JSON document with --json. It exits
// with 0 when it has done what was asked, 1 when that failed, 2 when it was
// asked wrongly, and 3 when the key was not found.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/tanodb/tanodb/kv"
)

// The exit codes.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 3
)

// defaultAddr is where a node started without flags serves HTTP.
const defaultAddr = "http://127.0.0.1:8098"

// defaultPB is where it serves Protocol Buffers: the port is Riak's.
const defaultPB = "127.0.0.1:8087"

// cli is the command line.
type cli struct {
	JSON    bool          `help:"Print one JSON document instead of text."`
	Addr    []string      `help:"Where a node serves HTTP. Several, separated by commas: the first that can be reached is asked; bench spreads over all." placeholder:"URL" default:"${addr}" env:"TANODB_ADDR"`
	Timeout time.Duration `help:"How long a request may take, from 1ms to 24h." placeholder:"DURATION" default:"30s" env:"TANODB_TIMEOUT"`
	loginFlags
	ShowVersion versionFlag `name:"version" hidden:"" help:"Print the version."`

	Serve      serveCmd      `cmd:"" help:"Run a node. Alone it is a whole database."`
	Dev        devCmd        `cmd:"" help:"Run a cluster of real processes on this machine, to play with and to break."`
	Ping       pingCmd       `cmd:"" help:"Ask a partition, taken by chance, for a sign of life."`
	Put        putCmd        `cmd:"" help:"Write a value."`
	Get        getCmd        `cmd:"" help:"Read a value."`
	Del        delCmd        `cmd:"" help:"Delete a key."`
	Keys       keysCmd       `cmd:"" help:"List the keys of a bucket."`
	Data       dataCmd       `cmd:"" help:"Read and change counters, sets, maps and their like."`
	Buckets    bucketsCmd    `cmd:"" help:"List the buckets of a type that have keys."`
	Index      indexCmd      `cmd:"" help:"Find keys by what their values have in an index."`
	Status     statusCmd     `cmd:"" help:"Show a node, and the cluster as it sees it."`
	Top        topCmd        `cmd:"" help:"Watch a cluster in the terminal: members, load, transfers, hints, repair."`
	Cluster    clusterCmd    `cmd:"" help:"Show the members of a cluster, and change them."`
	BucketType bucketTypeCmd `cmd:"" name:"bucket-type" help:"Show bucket types, and change them."`
	Bucket     bucketCmd     `cmd:"" help:"Show the properties of a bucket, and change them."`
	Repair     repairCmd     `cmd:"" help:"Show how replicas are compared and mended, and check them."`
	Backup     backupCmd     `cmd:"" help:"Back a cluster up, check backups, and restore them."`
	Export     exportCmd     `cmd:"" help:"Write the values of buckets as JSON lines or CSV."`
	Import     importCmd     `cmd:"" help:"Read lines of JSON or CSV, and write their values."`
	Hot        hotCmd        `cmd:"" help:"Show which keys are asked for most, are largest, have most siblings."`
	Bench      benchCmd      `cmd:"" help:"Load a cluster and measure it."`
	Config     configCmd     `cmd:"" help:"Show and check the options of a node."`
	Set        setCmd        `cmd:"" help:"Change an option of a node that runs."`
	Security   securityCmd   `cmd:"" help:"Show and change who may do what."`
	Cert       certCmd       `cmd:"" help:"Make certificates for nodes and users, and show them."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
	Completion completionCmd `cmd:"" help:"Print the completion script of a shell."`
	Man        manCmd        `cmd:"" help:"Print the page of the manual, for man."`
	Help       helpCmd       `cmd:"" help:"Show the help of a command."`
	Complete   completeCmd   `cmd:"" hidden:"" help:"Print the words that may come next." passthrough:"all"`
}

// app is what every command gets: the global flags, and the world outside.
type app struct {
	json    bool
	printed bool // the one document of --json
	addrs   []string
	timeout time.Duration
	secure  bool    // an address without a scheme is of https
	caller  *caller // nil: nobody

	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the program: it takes the arguments after the program's name and
// returns the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var c cli
	exited := errors.New("help was printed")
	parser, err := newParser(&c, stdout, stderr, func(int) { panic(exited) })
	if err != nil {
		fmt.Fprintln(stderr, "tanodb:", err)
		return exitFailed
	}
	ctx, done, err := parse(parser, args, exited)
	if done {
		return exitDone
	}
	a := &app{json: c.JSON, addrs: c.Addr, timeout: c.Timeout, stdin: stdin, stdout: stdout, stderr: stderr}
	if err == nil {
		a.secure = c.secure()
		err = a.check()
	}
	if err == nil {
		a.caller, err = c.caller(terminalOf(stdin, stderr))
	}
	if err != nil {
		fmt.Fprintf(stderr, "tanodb: %v\nRun \"%s --help\" for what can be said.\n", err, helpFor(parser, err))
		return exitUsage
	}
	err = ctx.Run(a)
	a.report(err)
	return exitCode(err)
}

// newParser builds the parser of the command line. Exit is called after a help
// text.
func newParser(c *cli, stdout, stderr io.Writer, exit func(int)) (*kong.Kong, error) {
	c.Serve.init()
	c.Config.Print.init()
	return kong.New(c,
		kong.Name("tanodb"),
		kong.Description("TanoDB is a masterless, replicated key/value database that keeps answering, and keeps every acknowledged write, while nodes fail.\n\n"+
			"Start with: tanodb serve, or: tanodb dev\n\n"+
			"Exit codes: 0 done, 1 failed, 2 asked wrongly, 3 not found."),
		kong.Writers(stdout, stderr),
		kong.Exit(exit),
		kong.Vars{"addr": defaultAddr},
		kong.ValueFormatter(flagHelp),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
	)
}

// flagHelp is the help of a flag with its default and its variable of the
// environment.
func flagHelp(v *kong.Value) string {
	help := v.Help
	if v.HasDefault && v.Default != "" {
		help += " Default: " + v.Default + "."
	}
	if v.Flag != nil && len(v.Flag.Envs) > 0 {
		help += " Environment: " + strings.Join(v.Flag.Envs, ", ") + "."
	}
	return help
}

// parse parses, and catches the panic by which the parser's exit leaves it
// after a help text: then done is true.
func parse(parser *kong.Kong, args []string, exited error) (ctx *kong.Context, done bool, err error) {
	defer func() {
		switch r := recover(); r {
		case nil:
		case exited:
			done = true
		default:
			panic(r)
		}
	}()
	if len(args) == 0 {
		args = []string{"--help"}
	}
	ctx, err = parser.Parse(args)
	return ctx, false, err
}

// helpFor is the command whose help explains the error.
func helpFor(parser *kong.Kong, err error) string {
	var p *kong.ParseError
	if !errors.As(err, &p) || p.Context == nil {
		return parser.Model.Name
	}
	var path []string
	for node := p.Context.Selected(); node != nil; node = node.Parent {
		path = append([]string{node.Name}, path...)
	}
	if len(path) == 0 {
		return parser.Model.Name
	}
	return strings.Join(path, " ")
}

// check refuses global flags that cannot be meant, and completes addresses.
func (a *app) check() error {
	if a.timeout < time.Millisecond || a.timeout > kv.MaxTimeout {
		return usagef("--timeout is %v; it must be from 1ms to %v", a.timeout, kv.MaxTimeout)
	}
	if len(a.addrs) == 0 {
		return usagef("--addr is empty; it must be a URL such as %s", defaultAddr)
	}
	for i, addr := range a.addrs {
		base, err := a.base(addr)
		if err != nil {
			return err
		}
		a.addrs[i] = base
	}
	return nil
}

// print writes a command's outcome: its String for people, or it as JSON.
func (a *app) print(v fmt.Stringer) error {
	if a.json {
		return a.printJSON(v)
	}
	_, err := io.WriteString(a.stdout, v.String())
	return err
}

// printJSON writes any value as one indented JSON document.
func (a *app) printJSON(v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	a.printed = true
	_, err = a.stdout.Write(append(b, '\n'))
	return err
}

// usageError is a command that was asked wrongly.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// problem is an error as JSON.
type problem struct {
	Text string `json:"error"`
}

// report writes an error for people to standard error and, with --json, to
// standard output as JSON too, unless the command has printed its own document:
// that says more, and a script reads one.
func (a *app) report(err error) {
	if err == nil {
		return
	}
	fmt.Fprintln(a.stderr, "tanodb:", err)
	if a.json && !a.printed {
		// Standard output is all that is left; nobody can be told that it failed.
		_ = a.printJSON(problem{err.Error()})
	}
}

// exitCode is the exit code that an error asks for.
func exitCode(err error) int {
	var usage *usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage), errors.Is(err, kv.ErrInvalid), errors.Is(err, kv.ErrContext):
		return exitUsage
	case errors.Is(err, kv.ErrNotFound):
		return exitNotFound
	}
	return exitFailed
}

// requestContext bounds a request to a server, with some grace for the server to say
// itself that the time is over.
func (a *app) requestContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), a.timeout+timeoutGrace)
}
