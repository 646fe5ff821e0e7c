package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tanodb/tanodb/internal/server/api"
	"github.com/tanodb/tanodb/internal/testports"
)

// TestMain makes this test binary stand in for the program: started under the
// name tanodb it is tanodb, for the scripts and for the children of tanodb dev.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tanodb": main})
}

// TestScripts runs the sessions of testdata/script, each in a directory of its
// own and with ports of its own: $PORT to $PORT+9. Commands without --addr talk
// to the first.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			base, err := testports.Commands.Take(10)
			if err != nil {
				return err
			}
			env.Setenv("PORT", strconv.Itoa(base))
			for i := range 10 {
				env.Setenv(fmt.Sprintf("PORT%d", i), strconv.Itoa(base+i))
			}
			env.Setenv("TANODB_ADDR", fmt.Sprintf("http://127.0.0.1:%d", base))
			env.Setenv("TANODB_HTTP", fmt.Sprintf("127.0.0.1:%d", base))
			env.Setenv("TANODB_PB", "off") // one default port for all scripts at once
			env.Setenv("TANODB_BASE_PORT", strconv.Itoa(base))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"bytes":   cmdBytes,
			"context": cmdContext,
			"exits":   cmdExits,
			"long":    cmdLong,
			"vtag":    cmdVTag,
		},
	})
}

// cmdBytes writes a file of which the bytes are given in Go's syntax, which a
// script cannot hold otherwise: bytes FILE "a\x00b".
func cmdBytes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: bytes FILE QUOTED")
	}
	b, err := strconv.Unquote(`"` + args[1] + `"`)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(b), 0o644))
}

// cmdExits runs a command that must end with this exit code: exits 3 tanodb get b k.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	code := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d; want %s", code, args[0])
	}
}

// cmdLong sets $LONG to a word of so many bytes: long 65537.
func cmdLong(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: long BYTES")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	ts.Setenv("LONG", strings.Repeat("x", n))
}

// cmdContext sets $CONTEXT to what a file holds: context FILE.
func cmdContext(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: context FILE")
	}
	ts.Setenv("CONTEXT", strings.TrimSpace(ts.ReadFile(args[0])))
}

// cmdVTag sets $VTAG to the vtag of the sibling with this value: vtag BUCKET KEY VALUE.
func cmdVTag(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: vtag BUCKET KEY VALUE")
	}
	ts.Check(ts.Exec("tanodb", "get", args[0], args[1], "--json"))
	var o api.Object
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &o))
	for _, v := range o.Values {
		if string(v.Data) == args[2] {
			ts.Setenv("VTAG", v.VTag)
			return
		}
	}
	ts.Fatalf("no sibling is %q", args[2])
}
