package tokencache

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Event is one thing that happened inside a [Cache], for logs, metrics and
// alarms. It holds no secret, and prints none.
type Event struct {
	// Kind is what happened.
	Kind EventKind
	// Detail is one of the words that the kind's comment lists; "" if it lists
	// none.
	Detail string
	// Key is the key of the partition, the zero Key where it is not known. It
	// prints without the account that it holds.
	Key Key
	// Partition is the beginning of the partition's storage name: the same on
	// every machine, and telling nothing of the account. "" if the event is not
	// about one partition.
	Partition string
	// CorrelationID is that of [Access], "" for what no request asked for.
	CorrelationID string
	// Source tells where an answer came from, SourceNone if there is none.
	Source Source
	// Duration is how long it took, zero for what takes no time.
	Duration time.Duration
	// Err is why it failed, nil if it did not.
	Err error
}

// EventKind is what an [Event] tells of.
type EventKind string

// The kinds of events.
const (
	// EventHit: a request was answered with a cached token (Source: l1 or
	// provider).
	EventHit EventKind = "hit"
	// EventMiss: nothing cached answers a request. Detail: "none", or "stale" if
	// a token is valid but about to expire.
	EventMiss EventKind = "miss"
	// EventLoad: the provider was asked for a partition. Err is why it could not
	// answer, or why the partition has no tokens. During an outage, calls that are
	// not made are no events.
	EventLoad EventKind = "load"
	// EventSave: the provider has stored a partition (Detail: "") or its removal
	// ("removed"), and whoever looks finds it; or it has not, this time, and Err
	// tells why.
	EventSave EventKind = "save"
	// EventConflict: a save found that another had come first.
	EventConflict EventKind = "conflict"
	// EventMerge: after conflicts, this writer's changes were stored together
	// with the other's.
	EventMerge EventKind = "merge"
	// EventRefresh: the authorization server was asked for a token.
	EventRefresh EventKind = "refresh"
	// EventWait: somebody waited for another's work. Detail: "flight" (the same
	// request in this process), "process" (another request of the partition), or
	// "lease" (another machine).
	EventWait EventKind = "wait"
	// EventLease: a refresh asked for the lease. Detail: "acquired"; "busy",
	// another machine holds it; "failed", the provider could not tell, or could
	// not renew it; "lost", it ran out before it was renewed; "none", the provider
	// has no leases.
	EventLease EventKind = "lease"
	// EventInvalidation: the provider told of changes by others. Detail: "changed",
	// the copy of one partition in this process was dropped; "missed", messages may
	// have been lost, and all copies are only served if the provider does not
	// answer.
	EventInvalidation EventKind = "invalidation"
	// EventUnreadable: a stored record does not open. It is a security event:
	// the key is missing, or somebody has written to the backend. Detail: "format",
	// "plaintext where keys are set", "sealed where there are no keys", "unknown
	// key", "revoked key", "altered or moved", "too large", "malformed" or "does
	// not open". Where hooks are the persistence, it is "too large" or "malformed".
	EventUnreadable EventKind = "unreadable"
	// EventDegraded: a request was answered, though not as it should be. Detail:
	// "stale", with a token about to expire, as no new one was to be had; "unsaved",
	// with a new token that is not stored: it is kept (see EventUnsaved), unless a
	// hook refused it or it is too large; "alone", with a token that was obtained
	// without asking the provider; "copy", from a copy in this process that may
	// have changed elsewhere, as the provider does not answer, or with a record
	// that does not open.
	EventDegraded EventKind = "degraded"
	// EventUnsaved: what became of tokens that could not be stored at once.
	// Detail: "kept" in this process, and tried again; "saved"; "dropped", Err
	// telling why: the user has signed out, too many are kept already, the provider
	// did not answer until they ended, or they cannot be stored at all.
	EventUnsaved EventKind = "unsaved"
	// EventOutage: the provider failed several times in a row. Detail: "began",
	// and it is only asked now and then; "over".
	EventOutage EventKind = "outage"
	// EventUpkeep: a partition in use was kept alive. Detail: "touched", its
	// expiry was moved on; "resealed", it was sealed with the first key of the
	// ring; "renewed", a token of the application's own that was about to expire was
	// refreshed behind the requests, which are answered with it until then.
	EventUpkeep EventKind = "upkeep"
	// EventRestore: the provider had gone back to what this process had replaced,
	// as after a failover that has lost what it had acknowledged. A partition was
	// stored again (Detail: "") or its removal ("removed"); or it was not, this
	// time, and Err tells why: nothing of it is used until it is.
	EventRestore EventKind = "restore"
	// EventSignIn: a sign-in was stored, or could not be.
	EventSignIn EventKind = "sign-in"
	// EventSignOut: a partition was removed, or could not be. Detail: "everywhere"
	// if all of its owner's were to be.
	EventSignOut EventKind = "sign-out"
)

// The details that events have.
const (
	detailNone       = "none"
	detailStale      = "stale"
	detailFlight     = "flight"
	detailProcess    = "process"
	detailLease      = "lease"
	detailAcquired   = "acquired"
	detailBusy       = "busy"
	detailFailed     = "failed"
	detailLost       = "lost"
	detailChanged    = "changed"
	detailMissed     = "missed"
	detailRemoved    = "removed"
	detailUnsaved    = "unsaved"
	detailAlone      = "alone"
	detailCopy       = "copy"
	detailKept       = "kept"
	detailSaved      = "saved"
	detailDropped    = "dropped"
	detailBegan      = "began"
	detailOver       = "over"
	detailTouched    = "touched"
	detailResealed   = "resealed"
	detailRenewed    = "renewed"
	detailEverywhere = "everywhere"
)

// eventName is how much of a storage name an event shows: enough to tell
// partitions apart in a log.
const eventName = 8

// LogValue is the event's fields but for the kind, as a group: what is empty is
// left out.
func (e Event) LogValue() slog.Value { return slog.GroupValue(e.attrs()...) }

func (e Event) attrs() []slog.Attr {
	attrs := make([]slog.Attr, 0, 8)
	add := func(name, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(name, value))
		}
	}
	add("detail", e.Detail)
	if e.Key != (Key{}) {
		add("key", e.Key.String())
	}
	add("partition", e.Partition)
	add("correlation_id", e.CorrelationID)
	if e.Source != SourceNone {
		add("source", e.Source.String())
	}
	if e.Duration != 0 {
		attrs = append(attrs, slog.Duration("duration", e.Duration))
	}
	if e.Err != nil {
		add("error", e.Err.Error())
	}
	return attrs
}

// LogEvents returns a function for [Options.Events] that logs each event, its
// kind as the message behind "tokencache: ", and its other fields as
// [Event.LogValue] has them.
//
//   - Error: unreadable records.
//   - Warning: outages, degraded answers, what became of unsaved tokens, what a
//     provider had lost, leases that failed or were lost, tokens of the application
//     that could not be renewed; refreshes, saves, sign-ins and sign-outs that failed.
//   - Info: refreshes, saves, sign-ins and sign-outs.
//   - Debug: everything else. Loads that failed and saves that met a conflict are
//     among it, because the request tells, or goes on.
func LogEvents(logger *slog.Logger) func(context.Context, Event) {
	return func(ctx context.Context, e Event) {
		level := e.level()
		if logger.Enabled(ctx, level) {
			logger.LogAttrs(ctx, level, "tokencache: "+string(e.Kind), e.attrs()...)
		}
	}
}

func (e Event) level() slog.Level {
	switch e.Kind {
	case EventUnreadable:
		return slog.LevelError
	case EventDegraded, EventUnsaved, EventOutage, EventRestore:
		return slog.LevelWarn
	case EventUpkeep:
		if e.Detail == detailRenewed && e.Err != nil {
			return slog.LevelWarn
		}
	case EventLease:
		if e.Detail == detailFailed || e.Detail == detailLost {
			return slog.LevelWarn
		}
	case EventRefresh, EventSignIn, EventSignOut, EventSave:
		switch {
		case e.Err == nil:
			return slog.LevelInfo
		case e.Kind == EventSave && errors.Is(e.Err, ErrConflict):
			return slog.LevelDebug // everyday: the save is made again
		}
		return slog.LevelWarn
	}
	return slog.LevelDebug
}
