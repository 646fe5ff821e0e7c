package tanodb

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/thejerf/suture/v4"
)

// supervision is the tree of the node's long-lived services. A service that
// panics is restarted with back-off.
type supervision struct {
	root *suture.Supervisor

	mu       sync.Mutex
	services []Service
}

func newSupervision(n *Node) *supervision {
	t := &supervision{}
	t.root = suture.New("node", suture.Spec{EventHook: func(ev suture.Event) { t.event(n, ev) }})
	t.services = []Service{{Name: "node"}}
	return t
}

// add puts a group of services under a supervisor of its own.
func (t *supervision) add(group string, services map[string]suture.Service) {
	s := suture.NewSimple(group) // the root's event hook becomes its own when it is added
	t.services = append(t.services, Service{Name: "node/" + group})
	for _, name := range slices.Sorted(maps.Keys(services)) {
		s.Add(named{services[name], name})
		t.services = append(t.services, Service{Name: "node/" + group + "/" + name})
	}
	t.root.Add(s)
}

// named gives a service the name that events show.
type named struct {
	suture.Service
	name string
}

// String implements fmt.Stringer.
func (s named) String() string { return s.name }

// event counts restarts, and says why.
func (t *supervision) event(n *Node, ev suture.Event) {
	var group, service, why string
	switch ev := ev.(type) {
	case suture.EventServicePanic:
		group, service, why = ev.SupervisorName, ev.ServiceName, ev.PanicMsg
	case suture.EventServiceTerminate:
		group, service, why = ev.SupervisorName, ev.ServiceName, fmt.Sprint(ev.Err)
	case suture.EventStopTimeout:
		n.log.Error("a service does not stop", "service", ev.ServiceName)
		return
	default:
		return
	}
	if n.closing.Load() {
		return
	}
	n.metrics.panics.WithLabelValues("service").Inc()
	n.log.Error("a service has ended and is restarted", "group", group, "service", service, "why", why)
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.services {
		if t.services[i].Name == "node/"+group+"/"+service {
			t.services[i].Restarts++
			t.services[i].LastErr = why
		}
	}
}

func (t *supervision) list() []Service {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.services)
}
