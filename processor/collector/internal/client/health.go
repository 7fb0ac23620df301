package client

import (
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.uber.org/zap"
)

const logEvery = 10 * time.Second

// rest is a time in which the enricher is not asked, and what it is left alone for.
type rest struct {
	until time.Time
	cause *Missed
}

// health keeps the component's status and log: an outage, and apart from it what is the matter with single requests.
type health struct {
	cfg  *Config
	set  component.TelemetrySettings
	host component.Host

	resting atomic.Pointer[rest]
	failing atomic.Bool
	turning sync.Mutex // held while failing changes and is reported, so that reports come in the order of the changes

	mu     sync.Mutex
	logged map[string]time.Time // by reason, so that one does not hide another
	told   bool                 // the outage under way is in the log
}

// rest leaves the enricher alone for the cooldown. It is no one request's fault that it is not there.
func (h *health) rest(cause *Missed) {
	h.resting.Store(&rest{time.Now().Add(h.cfg.Cooldown), cause})
}

// succeeded ends an outage. Only one that was logged has an end in the log.
func (h *health) succeeded() {
	if !h.failing.Load() {
		return
	}
	h.turning.Lock()
	defer h.turning.Unlock()
	if !h.failing.CompareAndSwap(true, false) {
		return
	}
	h.mu.Lock()
	told := h.told
	h.told = false
	h.mu.Unlock()
	if told {
		h.set.Logger.Info("the enricher answers again", zap.String("endpoint", h.cfg.Endpoint))
	}
	h.report(componentstatus.NewEvent(componentstatus.StatusOK))
}

// failed tells of an outage. What is refused for what stands in the request says nothing about the enricher.
func (h *health) failed(missed *Missed) *Missed {
	if missed.Permanent {
		h.log("request: "+missed.Reason, "a request is not enriched, and would not be if it came again", missed)
		return missed
	}
	h.turning.Lock()
	defer h.turning.Unlock()
	if h.failing.CompareAndSwap(false, true) {
		h.report(componentstatus.NewRecoverableErrorEvent(missed))
	}
	if h.log(missed.Reason, "telemetry is not enriched", missed) {
		h.mu.Lock()
		h.told = true
		h.mu.Unlock()
	}
	return missed
}

// log a warning, unless one of its kind was logged shortly before.
func (h *health) log(kind, message string, missed *Missed) bool {
	now := time.Now()
	h.mu.Lock()
	if last, ok := h.logged[kind]; ok && now.Sub(last) < logEvery {
		h.mu.Unlock()
		return false
	}
	h.logged[kind] = now
	h.mu.Unlock()
	h.set.Logger.Warn(message,
		zap.String("endpoint", h.cfg.Endpoint), zap.String("on_error", h.cfg.OnError), zap.Error(missed))
	return true
}

func (h *health) report(event *componentstatus.Event) {
	if h.host != nil {
		componentstatus.ReportStatus(h.host, event)
	}
}
