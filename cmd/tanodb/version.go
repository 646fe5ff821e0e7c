package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/tanodb/tanodb/internal/transport"
)

type versionCmd struct{}

// Help is the long part of the command's help.
func (*versionCmd) Help() string { return "Example:\n\n    tanodb version --json" }

// stamped is the version that a release was built as, set by the linker; empty: the
// build knows of none.
var stamped string

// version is what this program is.
type version struct {
	Version  string  `json:"version"`          // stamped, or else of the module
	Commit   string  `json:"commit,omitempty"` // empty: not built from a repository
	Modified bool    `json:"modified"`         // built from a tree that differs from the commit
	Go       string  `json:"go"`
	Platform string  `json:"platform"`
	Formats  formats `json:"formats"`
}

// formats are the versions of what programs say to each other; docs/formats.md
// describes them.
type formats struct {
	Frame     int    `json:"frame"`     // of a message between nodes
	Protocols [2]int `json:"protocols"` // the lowest and the highest that nodes speak
}

// Run prints the version.
func (*versionCmd) Run(a *app) error { return a.print(thisVersion()) }

func thisVersion() version {
	low, high := transport.Protocols()
	v := version{
		Version:  "unknown",
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Formats:  formats{Frame: transport.FrameVersion, Protocols: [2]int{low, high}},
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version = cmp.Or(stamped, info.Main.Version)
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

// String is a few lines.
func (v version) String() string {
	s := "tanodb " + v.Version
	if v.Commit != "" {
		s += ", commit " + v.Commit
	}
	if v.Modified {
		s += " with changes"
	}
	p := v.Formats.Protocols
	return fmt.Sprintf("%s\nbuilt with %s for %s\nformats: frame %d, protocols %d to %d\n", s, v.Go, v.Platform, v.Formats.Frame, p[0], p[1])
}
