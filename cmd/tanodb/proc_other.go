//go:build !unix

package main

import (
	"os"
	"os/exec"
)

// The signals of pause and resume; nil: this system has none.
var signalPause, signalResume os.Signal

// detach does nothing here. The child ends by itself when its standard input does.
func detach(*exec.Cmd) {}
