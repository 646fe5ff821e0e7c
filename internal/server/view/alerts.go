package view

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Level says how bad it is.
type Level string

// The levels of an Alert.
const (
	Critical Level = "critical" // some requests fail, or data may be lost by the next failure
	Warning  Level = "warning"  // all goes on, and somebody should look
	Info     Level = "info"     // worth knowing
)

// Alert is something that an operator should know, and what to do about it. Its text changes only
// with the matter: it is read aloud to those who cannot see it, and each change is.
type Alert struct {
	Level Level  `json:"level"`
	Text  string `json:"text"`
	Do    string `json:"do,omitempty"`
}

// Alerts are all that is to be told of a cluster, the worst first.
func Alerts(s Snapshot, rates []Rate) []Alert {
	var all []Alert
	all = append(all, reach(s)...)
	moving := len(Ownership(s)) > 0
	for _, m := range Members(s) {
		all = append(all, ofMember(m)...)
		if m.Known && m.Repair.Failing > 0 && !moving { // while owners change, comparisons are broken off
			all = append(all, Alert{Warning, fmt.Sprintf("%s could not compare, or not mend, %d of %d pairs of replicas.", m.Name, m.Repair.Failing, m.Repair.Pairs), "tanodb repair status shows the errors."})
		}
	}
	all = append(all, ofRequests(rates)...)
	all = append(all, ofTopology(s)...)
	levels := []Level{Critical, Warning, Info}
	slices.SortStableFunc(all, func(a, b Alert) int { return slices.Index(levels, a.Level) - slices.Index(levels, b.Level) })
	return all
}

// reach tells of keys too few of whose owners are up.
func reach(s Snapshot) []Alert {
	of := s.Cluster.Partitions
	var all []Alert
	if s.Reach.Dark > 0 {
		all = append(all, Alert{Critical,
			fmt.Sprintf("For %s of %d, no owner is up: what was stored there cannot be read, and new writes go to stand-ins.", partitions(s.Reach.Dark), of),
			"Bring back any node that is down; each of them has some of it."})
	}
	if s.Reach.Minor > 0 {
		all = append(all, Alert{Critical,
			fmt.Sprintf("For %s of %d, no majority of the owners is up: requests that ask for primaries (PR, PW) fail, and one more failure may hide data.", partitions(s.Reach.Minor), of),
			"Bring back the nodes that are down, before anything else."})
	}
	return all
}

func partitions(n int) string {
	if n == 1 {
		return "1 partition"
	}
	return strconv.Itoa(n) + " partitions"
}

// ofMember tells what is wrong with a member.
func ofMember(m Member) []Alert {
	var all []Alert
	add := func(level Level, text, do string) {
		all = append(all, Alert{level, m.Name + " " + text, do})
	}
	switch {
	case m.State == StateDown:
		add(Warning, fmt.Sprintf("is down. Others stand in for its %s and keep hints for it.", partitions(m.Partitions)),
			"Start it again: what it missed is handed over to it. If it is gone for good: tanodb cluster force-replace "+m.Name+" NEW, or force-remove "+m.Name+"; then plan, and commit.")
	case m.State == StateSilent:
		add(Warning, "is held to be up, and has not answered: "+m.Why+".",
			"Wait some seconds: if it does not come back it will be held to be down. Then look at its machine and its log.")
	}
	if m.Skewed {
		add(Warning, "has a clock that most others do not agree with: where the last write wins, it does not say any more when a write was made.",
			"Set its clock, and keep it right with NTP.")
	}
	if !m.Known {
		return all
	}
	st := m.Storage
	if st.ReadOnly {
		add(Critical, "takes no writes: its disk is nearly full. Others stand in for it.", "Free space, or give it a larger disk; it goes on by itself.")
	}
	if st.Trouble != "" {
		add(Warning, "steps back, and others stand in for it: "+st.Trouble+".", "Look at its disk, and at the kernel's log.")
	}
	if len(st.Damaged) > 0 {
		add(Critical, fmt.Sprintf("has damage in %s that no other replica could mend.", partitions(len(st.Damaged))), "See \"Damaged data\" in the operator's manual; restore what is lost.")
	}
	if len(st.Rebuilding) > 0 {
		add(Warning, fmt.Sprintf("rebuilds %s from other replicas, and is not read from there meanwhile.", partitions(len(st.Rebuilding))), "Nothing: it ends by itself.")
	}
	if st.ReadErrors > 0 || st.Corruptions > 0 {
		add(Warning, fmt.Sprintf("has a disk that failed %d reads, and gave damaged data %d times since its start.", st.ReadErrors, st.Corruptions), "Look at its disk; replace it before it dies.")
	}
	if m.Repair.Paused {
		add(Info, "makes no comparisons of replicas: they are paused.", "tanodb repair resume "+m.Name)
	}
	return all
}

// ofRequests tells of requests that fail.
func ofRequests(rates []Rate) []Alert {
	var failing []string
	for _, r := range rates {
		if r.Failed > 0 {
			failing = append(failing, r.Op)
		}
	}
	if len(failing) == 0 {
		return nil
	}
	return []Alert{{Critical, "Requests fail: " + strings.Join(failing, ", ") + ".",
		"If nodes are down, bring them back. If not, look for overload: requests in progress, the disks, the network. tanodb_requests_total tells why, by outcome."}}
}

// ofTopology tells of changes of the cluster.
func ofTopology(s Snapshot) []Alert {
	var all []Alert
	c := &s.Cluster
	if c.Waits != "" {
		all = append(all, Alert{Warning, "Changes of the cluster wait: " + c.Waits + ". Reads and writes go on.", "Bring back most of the voters: " + strings.Join(c.Voters, ", ") + "."})
	}
	for _, t := range Ownership(s) {
		if t.LastError != "" {
			all = append(all, Alert{Warning, fmt.Sprintf("Partition %d does not get from %s to %s: %s.", t.Index, t.From, t.To, t.LastError), "tanodb cluster transfers shows what it waits for."})
		}
	}
	if n := len(c.Staged); n > 0 {
		all = append(all, Alert{Info, fmt.Sprintf("%d changes are staged, and not committed.", n), "tanodb cluster plan, and then commit or clear."})
	}
	for _, w := range c.Warnings {
		all = append(all, Alert{Warning, w, ""})
	}
	return all
}
