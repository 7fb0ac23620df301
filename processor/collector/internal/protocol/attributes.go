package protocol

import (
	"fmt"
	"math"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/xpdata"
	"google.golang.org/protobuf/encoding/protowire"
)

// attribute of an answer, without pointers: its key by its place among the texts, the field of AnyValue that holds its
// value, and that value: the bits of a number, or the place of a text.
type attribute struct {
	value uint64
	key   uint32
	field protowire.Number
}

// texts of an answer, each once: keys and values repeat from span to span. A span mostly has the keys of the one before
// it in the same order, and to compare costs less than to look them up.
type texts struct {
	all    []string
	known  map[string]uint32
	before []uint32
}

func (t *texts) of(b []byte) uint32 {
	if at, ok := t.known[string(b)]; ok {
		return at
	}
	s, at := string(b), uint32(len(t.all))
	t.all = append(t.all, s)
	t.known[s] = at
	return at
}

func (t *texts) key(b []byte, place int) uint32 {
	if place < len(t.before) && t.all[t.before[place]] == string(b) {
		return t.before[place]
	}
	at := t.of(b)
	if place < len(t.before) {
		t.before[place] = at
	} else {
		t.before = append(t.before, at)
	}
	return at
}

const (
	ownPrefix    = "spanledger."
	forgedPrefix = "spanledger.forged."
)

const (
	kindKey   = "spanledger.kind"
	sourceKey = "spanledger.source"
)

// usualNames are the keys by which any span may name its session, run, agent or task, unless the server lists others.
var usualNames = set(
	"spanledger.session.id", "spanledger.session.parent_id", "spanledger.run.id", "spanledger.agent.id",
	"spanledger.agent.parent_id", "spanledger.task.id", "spanledger.task.kind",
)

// broughtKeys are what spans made from logs and files bring, beside sourceKey and what begins like it.
var broughtKeys = set(
	"spanledger.granularity", "spanledger.note", "spanledger.session.closed", "spanledger.cost.reported_usd",
	"spanledger.cost.estimate", "spanledger.tool.signature", "spanledger.tool.signature_scope",
)

func set(keys ...string) map[string]struct{} {
	all := make(map[string]struct{}, len(keys))
	for _, key := range keys {
		all[key] = struct{}{}
	}
	return all
}

// MissedKey marks spans that went on without enrichment, with the reason: their cost is unknown, not zero.
const MissedKey = "spanledger.missed"

// ApplyTo moves forged attributes aside where they stand, takes out the mark of a Collector before this one, and appends
// the answer's attributes behind those that are there, as they would be appended on the wire: none is looked for first,
// and a key that came in stays where it is.
func (s SpanAnswer) ApplyTo(attributes pcommon.Map) {
	var b xpdata.MapBuilder
	b.EnsureCapacity(attributes.Len() + len(s.attributes))
	place, forged := uint64(0), s.Forged
	aside := s.aside(attributes)
	for key, value := range attributes.All() {
		switch {
		case len(forged) > 0 && forged[0] == place:
			forged = forged[1:]
			if name := forgedPrefix + strings.TrimPrefix(key, ownPrefix); !aside[name] {
				aside[name] = true
				value.MoveTo(b.AppendEmpty(name))
			}
		case key != MissedKey || len(s.attributes) == 0:
			value.MoveTo(b.AppendEmpty(key))
		}
		place++
	}
	for _, one := range s.attributes {
		into := b.AppendEmpty(s.texts.all[one.key])
		switch one.field {
		case 1:
			into.SetStr(s.texts.all[one.value])
		case 2:
			into.SetBool(one.value != 0)
		case 3:
			into.SetInt(int64(one.value))
		case 4:
			into.SetDouble(math.Float64frombits(one.value))
		}
	}
	b.UnsafeIntoMap(attributes)
}

// MoveAside moves what only Spanledger writes aside on a span that goes on without an answer: which of it Spanledger
// wrote for this span is not known, and no sum may hold what a sender wrote. names are the keys by which a span may name
// something, nil before the first handshake. What a trusted hop has marked stays.
func MoveAside(attributes pcommon.Map, names map[string]struct{}, trusted bool) {
	if names == nil {
		names = usualNames
	}
	_, made := attributes.Get(sourceKey)
	marked := false
	var forged []uint64
	place := uint64(0)
	for key := range attributes.All() {
		if strings.HasPrefix(key, ownPrefix) {
			marked = marked || key == kindKey
			if !senders(key, names, made) {
				forged = append(forged, place)
			}
		}
		place++
	}
	if len(forged) > 0 && !(trusted && marked) {
		SpanAnswer{Forged: forged}.ApplyTo(attributes)
	}
}

// senders says whether a sender may write this key of ours.
func senders(key string, names map[string]struct{}, made bool) bool {
	if _, ok := names[key]; ok || key == MissedKey || strings.HasPrefix(key, forgedPrefix) {
		return true
	}
	_, brought := broughtKeys[key]
	return made && (brought || key == sourceKey || strings.HasPrefix(key, sourceKey+"."))
}

// aside holds the names of attributes that were moved aside before: of those that would have one name the first is kept.
func (s SpanAnswer) aside(attributes pcommon.Map) map[string]bool {
	if len(s.Forged) == 0 {
		return nil
	}
	aside := map[string]bool{}
	for key := range attributes.All() {
		if strings.HasPrefix(key, forgedPrefix) {
			aside[key] = true
		}
	}
	return aside
}

// valueTypes of the fields of AnyValue that the server writes.
var valueTypes = map[protowire.Number]protowire.Type{
	1: protowire.BytesType, 2: protowire.VarintType, 3: protowire.VarintType, 4: protowire.Fixed64Type,
}

// readAttributes reads encoded Span.attributes fields behind those that are in `into`. Other value types than the server
// writes are an error.
func readAttributes(encoded []byte, into []attribute, texts *texts) ([]attribute, error) {
	first := len(into)
	err := fields(encoded, func(entry field) error {
		if entry.number != 9 || entry.typ != protowire.BytesType {
			return fmt.Errorf("%w: field %d among attributes", ErrMalformed, entry.number)
		}
		var key []byte
		var value field
		err := fields(entry.bytes, func(part field) error {
			switch part.number {
			case 1:
				key = part.bytes
			case 2:
				return fields(part.bytes, func(v field) error { value = v; return nil })
			}
			return nil
		})
		if err != nil {
			return err
		}
		if typ, ok := valueTypes[value.number]; !ok || typ != value.typ || len(key) == 0 {
			return fmt.Errorf("%w: an attribute %q of type %d", ErrMalformed, key, value.number)
		}
		one := attribute{value: value.varint, key: texts.key(key, len(into)-first), field: value.number}
		if value.typ == protowire.BytesType {
			one.value = uint64(texts.of(value.bytes))
		}
		into = append(into, one)
		return nil
	})
	return into, err
}
