package selection

import (
	"slices"
	"strings"
	"unicode/utf8"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/spanledger/spanledger/processor/collector/internal/protocol"
)

const (
	// leftOut stands for a value that is not sent. It is not empty: that there is an answer is read, what it is not.
	leftOut = "-"
	// smallest text in bytes that is worth leaving out.
	smallest = 64
	// around a text that is compared, as the server cuts it off.
	around = " \t\r\n\"'"
)

// pattern of a key, cut at its stars.
type pattern []string

func newPattern(key string) pattern { return strings.Split(key, "*") }

// match says whether key is the pattern with digits for each star, and returns those for the first one.
func (p pattern) match(key string) (place string, ok bool) {
	rest, found := strings.CutPrefix(key, p[0])
	for i, piece := range p[1:] {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		if !found || digits == 0 {
			return "", false
		}
		if i == 0 {
			place = rest[:digits]
		}
		rest, found = strings.CutPrefix(rest[digits:], piece)
	}
	return place, found && rest == ""
}

// unread is a key whose value need not be sent, but for the values that are read all the same.
type unread struct {
	protocol.UnreadValue
	key  pattern
	read []readValue
}

type readValue struct {
	protocol.ReadValue
	beside pattern
}

func newUnread(value protocol.UnreadValue, read []protocol.ReadValue) unread {
	u := unread{UnreadValue: value, key: newPattern(value.Key)}
	for _, r := range read {
		if r.Key == value.Key {
			u.read = append(u.read, readValue{r, newPattern(r.Beside)})
		}
	}
	return u
}

// isRead says whether a value is read all the same.
func (u unread) isRead(key string, value pcommon.Value, like *likeKeys) bool {
	return slices.ContainsFunc(u.read, func(r readValue) bool {
		if value.Type() == pcommon.ValueTypeStr && longer(value.Str(), r.Longest) {
			return false
		}
		if len(r.Markers) > 0 && count(value, r.Markers) < r.Fewest {
			return false
		}
		if r.Beside == "" {
			return true
		}
		known := like.of(r.Beside, r.beside)
		if known.number < r.Fewest {
			return false
		}
		place, _ := u.key.match(key)
		return !r.SamePlace || slices.Contains(known.places, place)
	})
}

// longer says whether the server finds more characters than limit in a text; 0 is no limit. It reads what is not UTF-8
// as other characters, no more of them than there are bytes and no fewer than a quarter.
func longer(text string, limit uint64) bool {
	size := uint64(len(text))
	if limit == 0 || size <= limit {
		return false
	}
	return size > 4*limit || utf8.ValidString(text) && uint64(utf8.RuneCountInString(text)) > limit
}

// count how often the markers stand in a value.
func count(value pcommon.Value, markers []string) (number uint64) {
	switch value.Type() {
	case pcommon.ValueTypeStr:
		number = countIn(value.Str(), markers)
	case pcommon.ValueTypeSlice:
		for _, one := range value.Slice().All() {
			number += count(one, markers)
		}
	case pcommon.ValueTypeMap:
		for key, one := range value.Map().All() {
			number += countIn(key, markers) + count(one, markers)
		}
	}
	return number
}

func countIn(text string, markers []string) (number uint64) {
	for _, marker := range markers {
		number += uint64(strings.Count(text, marker))
	}
	return number
}

// likeKeys finds keys of a span by patterns, once each.
type likeKeys struct {
	attributes pcommon.Map
	known      map[string]places
}

// places are the digits in place of the first star of those keys that are like a pattern.
type places struct {
	number uint64
	places []string
}

func (l *likeKeys) of(name string, p pattern) places {
	known, ok := l.known[name]
	if ok {
		return known
	}
	for key := range l.attributes.All() {
		if place, ok := p.match(key); ok {
			known.number++
			known.places = append(known.places, place)
		}
	}
	if l.known == nil {
		l.known = map[string]places{}
	}
	l.known[name] = known
	return known
}

// of says whether the value is left out of a span.
func (u unread) of(span ptrace.Span, scope string) bool {
	attributes := span.Attributes()
	isKey := func(key string) bool { _, ok := attributes.Get(key); return ok }
	if !slices.ContainsFunc(u.UnlessKeys, isKey) && !begins(scope, u.UnlessScopes) && !begins(span.Name(), u.UnlessNames) {
		return true
	}
	where, ok := attributes.Get(u.Where)
	return ok && where.Type() == pcommon.ValueTypeStr &&
		slices.Contains(u.Values, strings.ToLower(strings.Trim(where.Str(), around)))
}

func worthLeavingOut(value pcommon.Value) bool {
	switch value.Type() {
	case pcommon.ValueTypeStr:
		return len(value.Str()) > smallest
	case pcommon.ValueTypeBytes:
		return value.Bytes().Len() > smallest
	default:
		return value.Type() == pcommon.ValueTypeSlice || value.Type() == pcommon.ValueTypeMap
	}
}

// keptValue is a value that was taken out of a span, and where it belongs.
type keptValue struct{ at, value pcommon.Value }

// leaveOut what nobody reads, and return it. A span without valid ids keeps all: its bytes are its identity.
func (s Selection) leaveOut(td ptrace.Traces, places []Place) (kept []keptValue) {
	var known map[string]class
	for _, place := range places {
		span := place.Of(td)
		if !place.Content || span.TraceID().IsEmpty() || span.SpanID().IsEmpty() {
			continue
		}
		if known == nil {
			known = s.keys.snapshot()
		}
		scope := td.ResourceSpans().At(place.Resource).ScopeSpans().At(place.Scope).Scope().Name()
		first, like := len(kept), likeKeys{attributes: span.Attributes()}
		for key, value := range span.Attributes().All() {
			c, ok := known[key]
			if !ok {
				c = s.keys.classify(key)
			}
			if c>>unreadShift == 0 || !worthLeavingOut(value) {
				continue
			}
			if u := s.keys.unread[c>>unreadShift-1]; u.of(span, scope) && !u.isRead(key, value, &like) {
				kept = append(kept, keptValue{at: value})
			}
		}
		for i := range kept[first:] { // only now: what an attribute holds decides about others
			one := &kept[first+i]
			one.value = pcommon.NewValueEmpty()
			one.at.MoveTo(one.value)
			one.at.SetStr(leftOut)
		}
	}
	return kept
}
