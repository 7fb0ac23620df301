// Package protocol writes the requests and reads the answers of spanledger.enrich.v1 (enrich.proto).
//
// An answer is read and checked as a whole before anything is done with it.
package protocol

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Version of the protocol that this client speaks.
const Version = 1

const service = "/spanledger.enrich.v1.Enricher/"

// Full names of the methods.
const (
	Describe     = service + "Describe"
	EnrichTraces = service + "EnrichTraces"
	MakeSpans    = service + "MakeSpans"
)

// SenderHeaders is the metadata with the headers of a sender that gRPC cannot carry under their own names: a line for each
// value, "name:value", of any bytes.
const SenderHeaders = "spanledger-headers-bin"

// ErrMalformed says that an answer does not follow the protocol.
var ErrMalformed = errors.New("the enricher's answer does not follow the protocol")

// Description is what the server tells before anything is selected.
type Description struct {
	Protocol        uint64
	Revision        string
	SpanMarkers     []string
	LogMarkers      []string
	LinkKeys        []string
	MaxMessageBytes uint64
	UnreadValues    []UnreadValue
	// TrustedHop says that spans which another Spanledger has marked pass as they are.
	TrustedHop bool
	ReadValues []ReadValue
	// SenderHeaders says that the server reads the metadata of that name.
	SenderHeaders bool
}

// UnreadValue is a key whose value the server does not read, and of which spans.
type UnreadValue struct {
	Key                                   string
	UnlessKeys, UnlessScopes, UnlessNames []string
	Where                                 string
	Values                                []string
}

// ReadValue is a value under such a key that the server reads all the same, where all holds that is set.
type ReadValue struct {
	Key             string
	Markers         []string
	Fewest, Longest uint64
	Beside          string
	SamePlace       bool
}

// Answer of EnrichTraces, checked against the number of spans sent. A stale one says nothing else.
type Answer struct {
	Stale bool
	Spans []SpanAnswer
}

// SpanAnswer says what one span gains, or why it gains nothing although it should.
type SpanAnswer struct {
	Span    int
	Failure string
	// Forged are the places among the span's attributes, in rising order, of those to move aside.
	Forged []uint64

	attributes []attribute
	texts      *texts
}

// Made is the answer of MakeSpans.
type Made struct {
	RecordsFailed uint64
	Stale         bool
	Traces        []byte
}

// DescribeRequest encodes a DescribeRequest.
func DescribeRequest() []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), Version)
}

// RequestHead encodes what stands before the telemetry of an EnrichTracesRequest or a MakeSpansRequest, which have the
// same fields. The telemetry, so many bytes, is sent behind it without being copied.
func RequestHead(revision string, telemetry int) []byte {
	out := make([]byte, 0, len(revision)+32)
	out = protowire.AppendString(protowire.AppendTag(out, 1, protowire.BytesType), revision)
	return protowire.AppendVarint(protowire.AppendTag(out, 2, protowire.BytesType), uint64(telemetry))
}

// ReadDescription reads a DescribeResponse.
func ReadDescription(answer []byte) (Description, error) {
	var d Description
	err := fields(answer, func(f field) error {
		switch f.number {
		case 1:
			d.Protocol = f.varint
		case 2:
			d.Revision = string(f.bytes)
		case 3:
			d.SpanMarkers = append(d.SpanMarkers, string(f.bytes))
		case 4:
			d.LogMarkers = append(d.LogMarkers, string(f.bytes))
		case 5:
			d.LinkKeys = append(d.LinkKeys, string(f.bytes))
		case 6:
			d.MaxMessageBytes = f.varint
		case 7:
			value, known, err := readUnread(f.bytes)
			if known {
				d.UnreadValues = append(d.UnreadValues, value)
			}
			return err
		case 8:
			d.TrustedHop = f.varint != 0
		case 9:
			value, err := readRead(f.bytes)
			d.ReadValues = append(d.ReadValues, value)
			return err
		case 10:
			d.SenderHeaders = f.varint != 0
		}
		return nil
	})
	switch {
	case err != nil:
		return d, err
	case d.Protocol != Version:
		return d, fmt.Errorf("%w: version %d of the protocol, and this component speaks %d", ErrMalformed, d.Protocol, Version)
	case d.Revision == "" || len(d.SpanMarkers) == 0:
		return d, fmt.Errorf("%w: a description without revision or markers", ErrMalformed)
	}
	return d, nil
}

// readUnread also tells whether all of the entry is known. A later server may have conditions that this client does not
// know: then the value may be read.
func readUnread(entry []byte) (u UnreadValue, known bool, err error) {
	known = true
	err = fields(entry, func(f field) error {
		text := string(f.bytes)
		switch f.number {
		case 1:
			u.Key = text
		case 2:
			u.UnlessKeys = append(u.UnlessKeys, text)
		case 3:
			u.UnlessScopes = append(u.UnlessScopes, text)
		case 4:
			u.UnlessNames = append(u.UnlessNames, text)
		case 5:
			u.Values = append(u.Values, text)
		case 6:
			u.Where = text
		default:
			known = false
		}
		return nil
	})
	return u, known, err
}

// readRead leaves out all conditions of an entry that has one which this client does not know.
func readRead(entry []byte) (ReadValue, error) {
	var r ReadValue
	known := true
	err := fields(entry, func(f field) error {
		switch f.number {
		case 1:
			r.Key = string(f.bytes)
		case 2:
			r.Markers = append(r.Markers, string(f.bytes))
		case 3:
			r.Fewest = f.varint
		case 4:
			r.Longest = f.varint
		case 5:
			r.Beside = string(f.bytes)
		case 6:
			r.SamePlace = f.varint != 0
		default:
			known = false
		}
		return nil
	})
	if !known {
		return ReadValue{Key: r.Key}, err
	}
	return r, err
}

// ReadAnswer reads an EnrichTracesResponse to a request of so many spans.
func ReadAnswer(answer []byte, spans int) (Answer, error) {
	a := Answer{Spans: make([]SpanAnswer, 0, spans)}
	r := reader{spans, make([]attribute, 0, len(answer)/attributeBytes), &texts{known: make(map[string]uint32, 128)}}
	var seen, decided, failed uint64
	err := fields(answer, func(f field) error {
		switch f.number {
		case 1:
			seen = f.varint
		case 2:
			decided = f.varint
		case 3:
			failed = f.varint
		case 4:
			a.Stale = f.varint != 0
		case 5:
			entry, err := r.span(f.bytes)
			a.Spans = append(a.Spans, entry)
			return err
		}
		return nil
	})
	r.texts.before = nil // it lies in the answer, whose memory is used again
	if err != nil || a.Stale {
		return Answer{Stale: a.Stale}, err
	}
	return a, a.check(seen, decided, failed, spans)
}

// attributeBytes are about what an attribute takes in an answer.
const attributeBytes = 36

// reader of an answer to a request of so many spans. The attributes of all spans stand one behind the other.
type reader struct {
	spans      int
	attributes []attribute
	texts      *texts
}

func (r *reader) span(entry []byte) (SpanAnswer, error) {
	s := SpanAnswer{texts: r.texts}
	err := fields(entry, func(f field) (err error) {
		switch f.number {
		case 1:
			if f.varint >= uint64(r.spans) {
				return fmt.Errorf("%w: span %d of %d", ErrMalformed, f.varint, r.spans)
			}
			s.Span = int(f.varint)
		case 2:
			first := len(r.attributes)
			r.attributes, err = readAttributes(f.bytes, r.attributes, r.texts)
			s.attributes = r.attributes[first:len(r.attributes):len(r.attributes)]
			return err
		case 3:
			s.Failure = string(f.bytes)
		case 4:
			return s.readForged(f)
		}
		return nil
	})
	return s, err
}

// readForged takes both encodings of a repeated number.
func (s *SpanAnswer) readForged(f field) error {
	packed := f.bytes
	if f.typ == protowire.VarintType {
		packed = protowire.AppendVarint(nil, f.varint)
	}
	for len(packed) > 0 {
		place, n := protowire.ConsumeVarint(packed)
		if last := len(s.Forged) - 1; n < 0 || last >= 0 && place <= s.Forged[last] {
			return fmt.Errorf("%w: places of forged attributes", ErrMalformed)
		}
		s.Forged = append(s.Forged, place)
		packed = packed[n:]
	}
	return nil
}

// check compares what was counted with what is there, so that an answer that lacks entries is not taken for
// "nothing to add".
func (a Answer) check(seen, decided, failed uint64, spans int) error {
	if seen != uint64(spans) {
		return fmt.Errorf("%w: %d spans sent, %d seen", ErrMalformed, spans, seen)
	}
	once := make([]bool, spans)
	for _, s := range a.Spans {
		if once[s.Span] {
			return fmt.Errorf("%w: span %d twice", ErrMalformed, s.Span)
		}
		once[s.Span] = true
		if s.Failure == "" {
			decided--
		} else {
			failed--
		}
	}
	if decided != 0 || failed != 0 {
		return fmt.Errorf("%w: other entries than counted", ErrMalformed)
	}
	return nil
}

// ReadMade reads a MakeSpansResponse to a request of so many records. One that was cut short is not taken for "no spans".
func ReadMade(answer []byte, records int) (Made, error) {
	var m Made
	var seen uint64
	err := fields(answer, func(f field) error {
		switch f.number {
		case 1:
			seen = f.varint
		case 2:
			m.RecordsFailed = f.varint
		case 3:
			m.Stale = f.varint != 0
		case 4:
			m.Traces = f.bytes
		}
		return nil
	})
	if err == nil && !m.Stale && (seen != uint64(records) || m.RecordsFailed > seen) {
		err = fmt.Errorf("%w: %d records sent, %d seen, %d failed", ErrMalformed, records, seen, m.RecordsFailed)
	}
	return m, err
}

// field of a message; bytes for length-delimited ones, varint for integers (also the bits of fixed ones).
type field struct {
	number protowire.Number
	typ    protowire.Type
	bytes  []byte
	varint uint64
}

// fields calls f for each field; unknown ones are f's to leave out.
func fields(message []byte, f func(field) error) error {
	for len(message) > 0 {
		number, typ, n := protowire.ConsumeTag(message)
		if n < 0 {
			return ErrMalformed
		}
		message = message[n:]
		one := field{number: number, typ: typ}
		switch typ {
		case protowire.BytesType:
			one.bytes, n = protowire.ConsumeBytes(message)
		case protowire.VarintType:
			one.varint, n = protowire.ConsumeVarint(message)
		case protowire.Fixed64Type:
			one.varint, n = protowire.ConsumeFixed64(message)
		default:
			n = protowire.ConsumeFieldValue(number, typ, message)
		}
		if n < 0 {
			return ErrMalformed
		}
		message = message[n:]
		if err := f(one); err != nil {
			return err
		}
	}
	return nil
}
