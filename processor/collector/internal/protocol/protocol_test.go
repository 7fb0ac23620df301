package protocol_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/xpdata"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/spanledger/spanledger/processor/collector/internal/enrichertest"
	"github.com/spanledger/spanledger/processor/collector/internal/protocol"
)

func TestAnswersThatDoNotFollowTheProtocolAreErrors(t *testing.T) {
	entry := enrichertest.Entry(0, "a", "b")
	list := enrichertest.Attribute("a", protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), nil))
	inList := append(protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 0),
		protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), list)...)
	cases := map[string][]byte{
		"empty":                    {},
		"garbage":                  []byte("garbage"),
		"cut":                      enrichertest.Message(2, 1, 0, false, entry)[:18],
		"fewer spans seen":         enrichertest.Message(1, 1, 0, false, entry),
		"fewer entries":            enrichertest.Message(2, 2, 0, false, entry),
		"more entries":             enrichertest.Message(2, 0, 0, false, entry),
		"failures that are none":   enrichertest.Message(2, 0, 1, false, entry),
		"a span that was not sent": enrichertest.Message(2, 1, 0, false, enrichertest.Entry(2, "a", "b")),
		"one span twice":           enrichertest.Message(2, 2, 0, false, entry, entry),
		"a value of another type":  enrichertest.Message(2, 1, 0, false, inList),
		"a place twice":            enrichertest.Message(2, 1, 0, false, enrichertest.Forged(0, "a", "b", 3, 3)),
		"a key that is empty":      enrichertest.Message(2, 1, 0, false, enrichertest.Entry(0, "", "b")),
		"another field":            spanOf(field(8, keyValue("a", field(1, "b")))),
		"a value before its key":   spanOf(field(9, field(2, field(1, "b"))+field(1, "a"))),
		"no value":                 spanOf(field(9, field(1, "a"))),
		"something behind a value": spanOf(field(9, keyValue("a", field(1, "b"))+field(3, ""))),
		"two values":               spanOf(field(9, keyValue("a", field(1, "b")+field(1, "c")))),
		"a number that is cut":     spanOf(field(9, keyValue("a", "\x18\xff"))),
		"a double that is cut":     spanOf(field(9, keyValue("a", "\x21\x00\x00"))),
		"an attribute that is cut": spanOf(field(9, keyValue("a", field(1, "b")))[:8]),
	}
	for name, answer := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := protocol.ReadAnswer(answer, 2); !errors.Is(err, protocol.ErrMalformed) {
				t.Fatalf("%v", err)
			}
		})
	}
}

func field(number protowire.Number, content string) string { return string(text(nil, number, content)) }

func keyValue(key, value string) string { return field(1, key) + field(2, value) }

// spanOf is an answer to two spans, of which the first gains these attributes.
func spanOf(attributes string) []byte {
	return enrichertest.Message(2, 1, 0, false, text(integer(nil, 1, 0), 2, attributes))
}

// What stands at a place in the span before is compared first: each span gains what it would gain alone.
func TestSpansThatAreLikeOneAnotherGainTheirOwn(t *testing.T) {
	long := strings.Repeat("long ", 100)
	values := []string{field(1, "b"), field(1, "bc"), field(1, ""), field(1, long), "\x18\x05", "\x18\xac\x02", "\x10\x01", "\x10\x00",
		"\x21\x00\x00\x00\x00\x00\x00\xf8\x3f"}
	var spans []string
	for i, first := range values {
		for j, second := range values {
			attributes := field(9, keyValue("a", first)) + field(9, keyValue("key", second))
			if (i+j)%3 == 0 {
				attributes = field(9, keyValue("key", second)) + field(9, keyValue("a", first)) + field(9, keyValue("a", second))
			}
			spans = append(spans, attributes)
		}
	}
	var entries [][]byte
	for i, attributes := range spans {
		entries = append(entries, text(integer(nil, 1, uint64(i)), 2, attributes))
	}
	together, err := protocol.ReadAnswer(enrichertest.Message(len(spans), len(spans), 0, false, entries...), len(spans))
	if err != nil {
		t.Fatal(err)
	}
	for i, attributes := range spans {
		alone, err := protocol.ReadAnswer(
			enrichertest.Message(1, 1, 0, false, text(integer(nil, 1, 0), 2, attributes)), 1)
		if err != nil {
			t.Fatal(err)
		}
		got, want := pcommon.NewMap(), pcommon.NewMap()
		together.Spans[i].ApplyTo(got)
		alone.Spans[0].ApplyTo(want)
		if got.Len() < 2 || !reflect.DeepEqual(listed(got), listed(want)) {
			t.Fatalf("%v, not %v", listed(got), listed(want))
		}
	}
}

// listed has all attributes in order, also those that have one key.
func listed(attributes pcommon.Map) (all []any) {
	for key, value := range attributes.All() {
		all = append(all, key, value.AsRaw())
	}
	return all
}

func TestAnswerOfAllKinds(t *testing.T) {
	answer, err := protocol.ReadAnswer(enrichertest.Message(3, 1, 1, false,
		enrichertest.Entry(2, "a", "b"), enrichertest.Failure(0, "KeyError")), 3)
	if err != nil || answer.Stale || len(answer.Spans) != 2 {
		t.Fatal(answer, err)
	}
	if answer.Spans[0].Span != 2 || answer.Spans[1].Failure != "KeyError" {
		t.Fatal(answer.Spans)
	}
}

func TestForgedAttributesAreMovedAsideWhereTheyStand(t *testing.T) {
	answer, err := protocol.ReadAnswer(enrichertest.Message(1, 1, 0, false,
		enrichertest.Forged(0, "spanledger.cost.usd", "ours", 1, 3)), 1)
	if err != nil {
		t.Fatal(err)
	}
	var b xpdata.MapBuilder
	for _, key := range []string{"a", "spanledger.cost.usd", "spanledger.missed", "spanledger.cost.usd", "spanledger.note"} {
		b.AppendEmpty(key).SetStr("theirs")
	}
	attributes := pcommon.NewMap()
	b.UnsafeIntoMap(attributes)
	answer.Spans[0].ApplyTo(attributes)
	var got []string
	for key, value := range attributes.All() {
		got = append(got, key+"="+value.Str())
	}
	want := "a=theirs spanledger.forged.cost.usd=theirs spanledger.note=theirs spanledger.cost.usd=ours"
	if strings.Join(got, " ") != want {
		t.Fatal(got)
	}
}

func TestWhatGoesOnWithoutAnAnswerSaysNothingInOurName(t *testing.T) {
	names := map[string]struct{}{"spanledger.session.id": {}}
	cases := []struct {
		came, want string
		trusted    bool
	}{
		{"a gen_ai.system", "a gen_ai.system", false},
		{"a spanledger.kind spanledger.cost.usd", "a spanledger.forged.kind spanledger.forged.cost.usd", false},
		{"spanledger.kind spanledger.cost.usd", "spanledger.kind spanledger.cost.usd", true},
		{"spanledger.cost.usd", "spanledger.forged.cost.usd", true},
		{"spanledger.session.id spanledger.run.id", "spanledger.session.id spanledger.forged.run.id", false},
		{"spanledger.missed spanledger.forged.x", "spanledger.missed spanledger.forged.x", false},
		{"spanledger.note spanledger.source.plan", "spanledger.forged.note spanledger.forged.source.plan", false},
		{"spanledger.source spanledger.source.plan spanledger.note spanledger.cost.reported_usd spanledger.cost.usd",
			"spanledger.source spanledger.source.plan spanledger.note spanledger.cost.reported_usd spanledger.forged.cost.usd", false},
		{"spanledger.forged.note spanledger.note spanledger.note", "spanledger.forged.note", false},
	}
	for _, c := range cases {
		var b xpdata.MapBuilder
		for _, key := range strings.Fields(c.came) {
			b.AppendEmpty(key).SetDouble(999)
		}
		attributes := pcommon.NewMap()
		b.UnsafeIntoMap(attributes)
		protocol.MoveAside(attributes, names, c.trusted)
		protocol.MoveAside(attributes, names, c.trusted) // twice is as once
		var got []string
		for key, value := range attributes.All() {
			got = append(got, key)
			if value.Double() != 999 {
				t.Fatal(key)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Fatalf("%s: %v", c.came, got)
		}
	}
}

func text(out []byte, number protowire.Number, content string) []byte {
	return protowire.AppendString(protowire.AppendTag(out, number, protowire.BytesType), content)
}

func integer(out []byte, number protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(out, number, protowire.VarintType), value)
}

// described is a description with entries of unread and of read values, behind what every server says.
func described(t *testing.T, unread, read [][]byte) protocol.Description {
	t.Helper()
	out := text(text(integer(nil, 1, 1), 2, "revision"), 3, "gen_ai.")
	for _, entry := range unread {
		out = text(out, 7, string(entry))
	}
	for _, entry := range read {
		out = text(out, 9, string(entry))
	}
	d, err := protocol.ReadDescription(integer(text(out, 1000, "of a later version"), 1001, 1))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestAnOlderServerSaysNothingOfValuesThatItReads(t *testing.T) {
	d := described(t, [][]byte{text(text(nil, 1, "gen_ai.input"), 2, "reader")}, nil)
	want := []protocol.UnreadValue{{Key: "gen_ai.input", UnlessKeys: []string{"reader"}}}
	if !reflect.DeepEqual(d.UnreadValues, want) || d.ReadValues != nil {
		t.Fatalf("%+v", d)
	}
}

func TestWhatALaterServerMayReadIsSent(t *testing.T) {
	whole := integer(integer(text(text(nil, 1, "gen_ai.input"), 2, "marker"), 3, 2), 4, 100)
	beside := integer(text(text(nil, 1, "gen_ai.*.x"), 5, "gen_ai.*.id"), 6, 1)
	d := described(t,
		[][]byte{text(nil, 1, "gen_ai.input"), text(text(nil, 1, "gen_ai.new"), 7, "a condition of a later version")},
		[][]byte{whole, beside, integer(whole, 7, 1)})
	if len(d.UnreadValues) != 1 || d.UnreadValues[0].Key != "gen_ai.input" {
		t.Fatalf("%+v", d.UnreadValues)
	}
	want := []protocol.ReadValue{
		{Key: "gen_ai.input", Markers: []string{"marker"}, Fewest: 2, Longest: 100},
		{Key: "gen_ai.*.x", Beside: "gen_ai.*.id", SamePlace: true},
		{Key: "gen_ai.input"}, // under a condition that is not known: whatever it holds
	}
	if !reflect.DeepEqual(d.ReadValues, want) {
		t.Fatalf("%+v", d.ReadValues)
	}
}

func TestAStaleAnswerSaysNothingElse(t *testing.T) {
	answer, err := protocol.ReadAnswer(enrichertest.Message(3, 1, 0, true, enrichertest.Entry(2, "a", "b")), 3)
	if err != nil || !answer.Stale || len(answer.Spans) != 0 {
		t.Fatal(answer, err)
	}
}

func BenchmarkReadAnswer(b *testing.B) {
	var entries [][]byte
	for i := range 512 {
		var attributes string
		for k := range 24 {
			value := field(1, fmt.Sprint("value ", k))
			if k%2 == 1 {
				value = field(1, fmt.Sprint("value ", k, " of ", i%50))
			}
			attributes += field(9, keyValue(fmt.Sprint("spanledger.some.key.", k), value))
		}
		entries = append(entries, text(integer(nil, 1, uint64(i)), 2, attributes))
	}
	answer := enrichertest.Message(512, 512, 0, false, entries...)
	for b.Loop() {
		if _, err := protocol.ReadAnswer(answer, 512); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/512, "ns/span")
}

func FuzzReadAnswer(f *testing.F) {
	f.Add(enrichertest.Message(2, 1, 0, false, enrichertest.Entry(0, "a", "b")))
	f.Add(enrichertest.Message(2, 0, 1, true, enrichertest.Failure(1, "x")))
	f.Fuzz(func(t *testing.T, answer []byte) {
		read, err := protocol.ReadAnswer(answer, 2)
		for _, s := range read.Spans {
			if err == nil && (s.Span < 0 || s.Span > 1) {
				t.Fatal(s.Span)
			}
		}
	})
}
