// Package selection finds the spans that the enricher has something to say about, without asking it.
package selection

import (
	"strings"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/spanledger/spanledger/processor/collector/internal/protocol"
)

// class of an attribute's key: flags, and above them the place in the list of unread values, counted from 1.
type class uint16

const (
	marker class = 1 << iota // a GenAI span may have it
	naming                   // names a session, a run or a tenant

	unreadShift = 2
	mostUnread  = 1<<(16-unreadShift) - 1
)

const (
	keysKept   = 4096
	longestKey = 256
)

// keys classifies attribute keys by the server's lists. What was classified is kept, up to a bound.
type keys struct {
	description protocol.Description
	naming      map[string]struct{}
	unread      []unread
	known       atomic.Pointer[map[string]class]
	grow        sync.Mutex
}

func newKeys(description protocol.Description) *keys {
	k := &keys{description: description, naming: make(map[string]struct{}, len(description.LinkKeys))}
	for _, key := range description.LinkKeys {
		k.naming[key] = struct{}{}
	}
	for _, value := range description.UnreadValues[:min(len(description.UnreadValues), mostUnread)] {
		k.unread = append(k.unread, newUnread(value, description.ReadValues))
	}
	k.known.Store(&map[string]class{})
	return k
}

// namesAmong returns those attributes that name a session, a run or a tenant.
func (k *keys) namesAmong(attributes pcommon.Map) []name {
	var names []name
	for key, value := range attributes.All() {
		if _, ok := k.naming[key]; ok {
			names = append(names, name{key, value.AsString()})
		}
	}
	return names
}

// snapshot of what is classified, for reading without a lock.
func (k *keys) snapshot() map[string]class { return *k.known.Load() }

// classify a key that a snapshot lacks, and keep the class for the next one.
func (k *keys) classify(key string) class {
	c := class(0)
	if k.marks(key) {
		c |= marker
	}
	if _, ok := k.naming[key]; ok {
		c |= naming
	}
	for i, value := range k.unread {
		if _, ok := value.key.match(key); ok {
			c |= class(i+1) << unreadShift
			break
		}
	}
	if len(key) > longestKey {
		return c
	}
	k.grow.Lock()
	defer k.grow.Unlock()
	old := k.snapshot()
	if len(old) >= keysKept {
		return c
	}
	next := make(map[string]class, len(old)+1)
	for name, of := range old {
		next[name] = of
	}
	next[strings.Clone(key)] = c
	k.known.Store(&next)
	return c
}

// marks says whether a key or a span's name holds one of the markers.
func (k *keys) marks(text string) bool {
	for _, m := range k.description.SpanMarkers {
		if strings.Contains(text, m) {
			return true
		}
	}
	return false
}
