package protocol

import (
	"fmt"
	"math"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/xpdata"
	"google.golang.org/protobuf/encoding/protowire"
)

// attribute of an answer: its key, and the field of AnyValue that holds its value.
type attribute struct {
	key   string
	text  string
	bits  uint64
	field protowire.Number
}

// texts keeps keys and values that repeat from span to span of one answer, each allocated once. A span mostly has the
// keys of the one before it in the same order, and to compare costs less than to look them up.
type texts struct {
	known  map[string]string
	before []string
}

func (t *texts) of(b []byte) string {
	if s, ok := t.known[string(b)]; ok {
		return s
	}
	s := string(b)
	t.known[s] = s
	return s
}

func (t *texts) key(b []byte, at int) string {
	if at < len(t.before) && t.before[at] == string(b) {
		return t.before[at]
	}
	s := t.of(b)
	if at < len(t.before) {
		t.before[at] = s
	} else {
		t.before = append(t.before, s)
	}
	return s
}

const (
	ownPrefix    = "spanledger."
	forgedPrefix = "spanledger.forged."
)

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
	for i := range s.attributes {
		one := &s.attributes[i]
		into := b.AppendEmpty(one.key)
		switch one.field {
		case 1:
			into.SetStr(one.text)
		case 2:
			into.SetBool(one.bits != 0)
		case 3:
			into.SetInt(int64(one.bits))
		case 4:
			into.SetDouble(math.Float64frombits(one.bits))
		}
	}
	b.UnsafeIntoMap(attributes)
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
		one := attribute{key: texts.key(key, len(into)-first), bits: value.varint, field: value.number}
		if value.typ == protowire.BytesType {
			one.text = texts.of(value.bytes)
		}
		into = append(into, one)
		return nil
	})
	return into, err
}
