//go:build unix && !linux

package main

import (
	"os"
	"os/exec"
	"syscall"
)

// The signals of pause and resume.
var (
	signalPause  os.Signal = syscall.SIGSTOP
	signalResume os.Signal = syscall.SIGCONT
)

// detach puts a child into a process group of its own, so that Ctrl-C reaches
// only its parent. The child ends by itself when its standard input does.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}
