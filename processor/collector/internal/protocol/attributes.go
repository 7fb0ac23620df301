package protocol

import (
	"fmt"
	"math"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/xpdata"
	"google.golang.org/protobuf/encoding/protowire"
)

// Names keeps the keys and values that repeat from span to span of one answer, each allocated once.
type Names map[string]string

func (n Names) of(b []byte) string {
	if s, ok := n[string(b)]; ok {
		return s
	}
	s := string(b)
	n[s] = s
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
// and a key that came in stays where it is. The attributes have been checked by ReadAnswer.
func (s SpanAnswer) ApplyTo(attributes pcommon.Map, names Names) {
	var b xpdata.MapBuilder
	b.EnsureCapacity(attributes.Len() + 32)
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
		case key != MissedKey || len(s.Attributes) == 0:
			value.MoveTo(b.AppendEmpty(key))
		}
		place++
	}
	_ = eachAttribute(s.Attributes, func(key []byte, value field) {
		into := b.AppendEmpty(names.of(key))
		switch value.number {
		case 1:
			into.SetStr(names.of(value.bytes))
		case 2:
			into.SetBool(value.varint != 0)
		case 3:
			into.SetInt(int64(value.varint))
		case 4:
			into.SetDouble(math.Float64frombits(value.varint))
		}
	})
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

var valueTypes = map[protowire.Number]protowire.Type{
	1: protowire.BytesType, 2: protowire.VarintType, 3: protowire.VarintType, 4: protowire.Fixed64Type,
}

// eachAttribute goes over encoded Span.attributes fields. Other value types than the server writes are an error.
func eachAttribute(encoded []byte, f func(key []byte, value field)) error {
	return fields(encoded, func(attribute field) error {
		if attribute.number != 9 || attribute.typ != protowire.BytesType {
			return fmt.Errorf("%w: field %d among attributes", ErrMalformed, attribute.number)
		}
		var key []byte
		var value field
		err := fields(attribute.bytes, func(part field) error {
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
		if f != nil {
			f(key, value)
		}
		return nil
	})
}
