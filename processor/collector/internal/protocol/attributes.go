package protocol

import (
	"bytes"
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

// texts of an answer, each once: keys and values repeat from span to span. So do whole attributes at their places: what
// stood there in the span before is compared first, which costs less than to read it.
type texts struct {
	all    []string
	known  map[string]uint32
	before []encodedAttribute
}

// encodedAttribute is an attribute of the span before, with its encoding.
type encodedAttribute struct {
	encoded []byte
	attribute
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
	if place < len(t.before) && t.all[t.before[place].key] == string(b) {
		return t.before[place].key
	}
	return t.of(b)
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

const (
	attributesTag = 9<<3 | byte(protowire.BytesType) // of a span
	keyTag        = 1<<3 | byte(protowire.BytesType)
	valueTag      = 2<<3 | byte(protowire.BytesType)
)

// The tags of the values that the server writes.
const (
	textTag   = 1<<3 | byte(protowire.BytesType)
	boolTag   = 2<<3 | byte(protowire.VarintType)
	intTag    = 3<<3 | byte(protowire.VarintType)
	doubleTag = 4<<3 | byte(protowire.Fixed64Type)
)

// readAttributes reads encoded Span.attributes fields behind those that are in `into`. Anything else than what the server
// writes is an error: no other field, and no other type of value.
func readAttributes(encoded []byte, into []attribute, texts *texts) ([]attribute, error) {
	for place := 0; len(encoded) > 0; place++ {
		if place < len(texts.before) {
			if before := &texts.before[place]; bytes.HasPrefix(encoded, before.encoded) {
				into = append(into, before.attribute)
				encoded = encoded[len(before.encoded):]
				continue
			}
		}
		entry, rest, ok := cutField(encoded, attributesTag)
		if !ok {
			return into, fmt.Errorf("%w: no attribute at place %d", ErrMalformed, place)
		}
		one, ok := readAttribute(entry, texts, place)
		if !ok {
			return into, fmt.Errorf("%w: attribute %d has no key, or a value of another type", ErrMalformed, place)
		}
		into = append(into, one)
		if known := (encodedAttribute{encoded[:len(encoded)-len(rest)], one}); place < len(texts.before) {
			texts.before[place] = known
		} else {
			texts.before = append(texts.before, known)
		}
		encoded = rest
	}
	return into, nil
}

func readAttribute(entry []byte, texts *texts, place int) (one attribute, ok bool) {
	key, rest, ok := cutField(entry, keyTag)
	if !ok || len(key) == 0 {
		return one, false
	}
	value, rest, ok := cutField(rest, valueTag)
	if !ok || len(rest) > 0 || len(value) < 2 {
		return one, false
	}
	one.field = protowire.Number(value[0] >> 3)
	n := 0
	switch value[0] {
	case textTag:
		text, rest, ok := cutField(value, textTag)
		if !ok || len(rest) > 0 {
			return one, false
		}
		one.key, one.value = texts.key(key, place), uint64(texts.of(text))
		return one, true
	case boolTag, intTag:
		one.value, n = protowire.ConsumeVarint(value[1:])
	case doubleTag:
		one.value, n = protowire.ConsumeFixed64(value[1:])
	}
	one.key = texts.key(key, place)
	return one, n == len(value)-1
}

// cutField returns the content of the field that a message begins with, and what is behind it; not ok where that is not
// the one of the tag, or is cut. Nearly all contents are shorter than 128 bytes.
func cutField(message []byte, tag byte) (content, rest []byte, ok bool) {
	if len(message) < 2 || message[0] != tag {
		return nil, nil, false
	}
	if end := 2 + int(message[1]); end < 2+0x80 {
		if end > len(message) {
			return nil, nil, false
		}
		return message[2:end], message[end:], true
	}
	content, n := protowire.ConsumeBytes(message[1:])
	if n < 0 {
		return nil, nil, false
	}
	return content, message[1+n:], true
}
