package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// devStateFile is the file in the directory of a dev cluster that says which
// nodes it has and how a running one is reached. Only its owner may read it: the
// token in it lets one kill the nodes.
const devStateFile = "dev.json"

// devStateVersion is the version of the file's form.
const devStateVersion = 1

// devState is what the file holds.
type devState struct {
	Version    int       `json:"version"`
	Control    string    `json:"control"` // HOST:PORT of the process that runs the cluster
	Token      string    `json:"token"`   // what that process wants to be shown
	Partitions int       `json:"partitions"`
	Replicas   int       `json:"replicas"`
	Durability string    `json:"durability"`
	Nodes      []devNode `json:"nodes"`
}

// devNode is a node of a dev cluster.
type devNode struct {
	Name   string `json:"name"`
	HTTP   string `json:"http"`            // HOST:PORT
	PB     string `json:"pb,omitempty"`    // HOST:PORT; empty: the file is older than the flag, and none is chosen yet
	Listen string `json:"listen"`          // HOST:PORT
	Joins  bool   `json:"joins,omitempty"` // it was added: it is not one of the first members
	Left   bool   `json:"left,omitempty"`  // it has left the cluster, and is not started any more
}

// newDevState is the state of a new cluster whose nodes are called n1, n2, ….
func newDevState(nodes, partitions, replicas int) *devState {
	s := &devState{Partitions: partitions, Replicas: replicas}
	for i := range nodes {
		s.Nodes = append(s.Nodes, devNode{Name: fmt.Sprintf("n%d", i+1)})
	}
	return s
}

// base is the URL of the node.
func (n devNode) base() string { return "http://" + n.HTTP }

// into are the flags by which a node becomes a member: as one of the first
// ones, or through any of the others.
func (s *devState) into(n devNode) []string {
	var first, addresses []string
	for _, m := range s.Nodes {
		if !m.Joins {
			first = append(first, m.Name+"="+m.Listen)
		}
		if !m.Left && m.Name != n.Name {
			addresses = append(addresses, m.Listen)
		}
	}
	if n.Joins {
		return []string{"--auto-join=" + strings.Join(addresses, ",")}
	}
	return []string{
		"--bootstrap=" + strings.Join(first, ","),
		"--partitions=" + strconv.Itoa(s.Partitions),
		"--replicas=" + strconv.Itoa(s.Replicas),
	}
}

// readDevState reads the file; nil: there is none.
func readDevState(dir string) (*devState, error) {
	b, err := os.ReadFile(filepath.Join(dir, devStateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the state of the dev cluster: %w", err)
	}
	s := &devState{}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", filepath.Join(dir, devStateFile), err)
	}
	if s.Version != devStateVersion {
		return nil, fmt.Errorf("%s has version %d; this program knows version %d", filepath.Join(dir, devStateFile), s.Version, devStateVersion)
	}
	if len(s.Nodes) == 0 {
		return nil, fmt.Errorf("%s is damaged: it names no nodes", filepath.Join(dir, devStateFile))
	}
	return s, nil
}

// write replaces the file.
func (s *devState) write(dir string) error {
	s.Version = devStateVersion
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	name := filepath.Join(dir, devStateFile)
	if err := os.WriteFile(name+".new", append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("cannot keep the state of the dev cluster: %w", err)
	}
	return os.Rename(name+".new", name)
}

// choosePorts gives every node its addresses.
func (s *devState) choosePorts(base int) error {
	var held ports
	defer held.release()
	for i := range s.Nodes {
		if err := s.choosePort(&held, i, base); err != nil {
			return err
		}
	}
	return nil
}

// add makes one more node, with addresses of its own.
func (s *devState) add(base int) error {
	if len(s.Nodes) == maxDevNodes {
		return fmt.Errorf("there are %d nodes already, the most that a dev cluster may have", maxDevNodes)
	}
	s.Nodes = append(s.Nodes, devNode{Name: fmt.Sprintf("n%d", len(s.Nodes)+1), Joins: true})
	var held ports
	defer held.release()
	if err := s.choosePort(&held, len(s.Nodes)-1, base); err != nil {
		s.Nodes = s.Nodes[:len(s.Nodes)-1]
		return err
	}
	return nil
}

// choosePort gives a node its addresses: from base on, or the kept ones if they
// can be used, or free ones.
func (s *devState) choosePort(held *ports, i, base int) (err error) {
	n := &s.Nodes[i]
	first := ""
	if i == 0 {
		first = strings.TrimPrefix(defaultAddr, "http://")
	}
	pb := ""
	if i == 0 {
		pb = defaultPB
	}
	http, listen, riak := []string{n.HTTP, first, anyPort}, []string{n.Listen, anyPort}, []string{n.PB, pb, anyPort}
	if base > 0 {
		http, listen = []string{loopback(base + 2*i)}, []string{loopback(base + 2*i + 1)}
		riak = []string{loopback(base + 2*maxDevNodes + i), anyPort}
	}
	if n.HTTP, err = held.hold(http...); err != nil {
		return err
	}
	if n.Listen, err = held.hold(listen...); err != nil {
		return err
	}
	n.PB, err = held.hold(riak...)
	return err
}

// ports are held all at once, so that none is chosen twice.
type ports []net.Listener

// hold takes the first of the addresses that is free.
func (p *ports) hold(wishes ...string) (string, error) {
	var last error
	for _, wish := range wishes {
		if wish == "" {
			continue
		}
		l, err := net.Listen("tcp", wish)
		if err == nil {
			*p = append(*p, l)
			return l.Addr().String(), nil
		}
		last = err
	}
	return "", fmt.Errorf("cannot use a port for the dev cluster: %w", last)
}

func (p *ports) release() {
	for _, l := range *p {
		l.Close()
	}
}

const anyPort = "127.0.0.1:0"

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// devAction is something that is asked of a running dev cluster.
type devAction string

// The actions.
const (
	actionKill   devAction = "kill"
	actionPause  devAction = "pause"
	actionResume devAction = "resume"
	actionStop   devAction = "stop"
	actionStart  devAction = "start"
	actionAdd    devAction = "add"
	actionStatus devAction = "status"
	actionAlive  devAction = "alive" // answered also while the cluster is busy with another
)

// devProcess is a node of a dev cluster and its process.
type devProcess struct {
	Node  string `json:"node"`
	State string `json:"state"` // running, paused, killed, stopped, left, or how it has ended
	PID   int    `json:"pid,omitempty"`
	HTTP  string `json:"http"`
	PB    string `json:"pb"`
	Log   string `json:"log"`
}

// devProcesses are all of them.
type devProcesses []devProcess

// String is a line each process.
func (ps devProcesses) String() string {
	t := newTable("NODE", "STATE", "PID", "HTTP", "LOG")
	for _, p := range ps {
		pid := "-"
		if p.PID != 0 {
			pid = strconv.Itoa(p.PID)
		}
		t.row(p.Node, p.State, pid, p.HTTP, p.Log)
	}
	return t.String()
}

// devAnswer is what a running cluster answers.
type devAnswer struct {
	Error     string       `json:"error,omitempty"`
	Usage     bool         `json:"usage,omitempty"` // the error is in what was asked
	Processes devProcesses `json:"processes"`
}

// running reports whether a process runs the cluster now.
func (s *devState) running() bool {
	if s.Control == "" {
		return false
	}
	_, err := s.post(actionAlive, nil, devPollWithin)
	return err == nil
}

// ask asks the process that runs the cluster.
func (s *devState) ask(dir string, action devAction, nodes []string) (devProcesses, error) {
	ans, err := s.post(action, nodes, devReadyWithin+devStopWithin*maxDevNodes)
	if err != nil {
		return nil, fmt.Errorf("no dev cluster runs in %s: start it with: tanodb dev --dir %s", dir, dir)
	}
	switch {
	case ans.Error == "":
		return ans.Processes, nil
	case ans.Usage:
		return nil, &usageError{ans.Error}
	}
	return nil, errors.New(ans.Error)
}

func (s *devState) post(action devAction, nodes []string, within time.Duration) (devAnswer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	form := url.Values{"node": nodes}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.Control+"/"+string(action), bytes.NewReader([]byte(form)))
	if err != nil {
		return devAnswer{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Bearer "+s.Token)
	resp, err := client.Do(req)
	if err != nil {
		return devAnswer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return devAnswer{}, err
	}
	var ans devAnswer
	if err := json.Unmarshal(b, &ans); err != nil {
		return devAnswer{}, fmt.Errorf("%s is not a dev cluster", s.Control)
	}
	return ans, nil
}
