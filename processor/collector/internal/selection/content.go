package selection

import (
	"slices"
	"strings"

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

// unread is a key whose value need not be sent, cut at its stars.
type unread struct {
	protocol.UnreadValue
	pieces []string
}

// matches says whether key is the pattern with digits for each star.
func (u unread) matches(key string) bool {
	rest, found := strings.CutPrefix(key, u.pieces[0])
	for _, piece := range u.pieces[1:] {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		if !found || digits == 0 {
			return false
		}
		rest, found = strings.CutPrefix(rest[digits:], piece)
	}
	return found && rest == ""
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
		first := len(kept)
		for key, value := range span.Attributes().All() {
			c, ok := known[key]
			if !ok {
				c = s.keys.classify(key)
			}
			if c>>unreadShift != 0 && worthLeavingOut(value) && s.keys.unread[c>>unreadShift-1].of(span, scope) {
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
