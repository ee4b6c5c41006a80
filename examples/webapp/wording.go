package main

import "github.com/coatcheck-go/coatcheck/tokencache"

// What events mean, in words for people, by kind and detail; for a hit, by where
// the token was found.
var wording = map[tokencache.EventKind]map[string]string{
	tokencache.EventHit: {
		"l1":       "Token found in L1",
		"provider": "Token found in the provider",
	},
	tokencache.EventMiss: {
		"none":  "No valid token cached",
		"stale": "The cached token is about to expire",
	},
	tokencache.EventLoad: {"": "Read from the provider"},
	tokencache.EventWait: {
		"flight":  "Waited for a request for the same token",
		"process": "Waited for another request of this node",
		"lease":   "Waited for another node",
	},
	tokencache.EventLease: {
		"acquired": "Lease taken: other nodes wait",
		"busy":     "Lease busy: another node is refreshing",
		"failed":   "Lease: the provider cannot tell who has it",
		"lost":     "Lease lost: it ran out",
		"none":     "No lease: the provider has none",
	},
	tokencache.EventRefresh: {"": "Refreshed at the identity server"},
	tokencache.EventSave: {
		"":        "Saved in the provider",
		"removed": "Removed from the provider",
	},
	tokencache.EventConflict: {"": "Conflict: somebody else saved first"},
	tokencache.EventMerge:    {"": "Merged: both changes are saved"},
	tokencache.EventInvalidation: {
		"changed": "Changed elsewhere: the copy in L1 is dropped",
		"missed":  "Messages may be lost: all copies in L1 are out of date",
	},
	tokencache.EventUnreadable: {"": "The stored record cannot be read"},
	tokencache.EventDegraded: {
		"stale":   "Served a token that is about to expire",
		"unsaved": "Served a new token that is not saved yet",
		"alone":   "Served a new token without asking the provider",
		"copy":    "Served from a copy that may be out of date: the provider does not answer",
	},
	tokencache.EventUnsaved: {
		"kept":    "Not saved yet: kept, and tried again",
		"saved":   "Saved after all",
		"dropped": "Not saved, and given up",
	},
	tokencache.EventOutage: {
		"began": "The provider does not answer",
		"over":  "The provider answers again",
	},
	tokencache.EventUpkeep: {
		"touched":  "Kept alive: its expiry is moved on",
		"resealed": "Sealed with the first key of the ring",
		"renewed":  "The application's token is renewed ahead of its end",
	},
	tokencache.EventRestore: {
		"":        "The provider had lost a save: saved again",
		"removed": "The provider had lost a removal: removed again",
	},
	tokencache.EventSignIn: {"": "Signed in"},
	tokencache.EventSignOut: {
		"":           "Signed out: the tokens are removed",
		"everywhere": "Signed out everywhere: all tokens are removed",
	},
}

// failures are the words for kinds of events that have failed, where those above
// would claim that they have not.
var failures = map[tokencache.EventKind]string{
	tokencache.EventLoad:    "Nothing to be read from the provider",
	tokencache.EventRefresh: "Not refreshed",
	tokencache.EventSave:    "Not saved in the provider",
	tokencache.EventUpkeep:  "Not kept alive",
	tokencache.EventRestore: "The provider has lost a save, and cannot store it again",
	tokencache.EventSignIn:  "Not signed in",
	tokencache.EventSignOut: "Not signed out of everything",
}

// wordsFor says what an event means. A kind or detail that is new is its own
// word.
func wordsFor(e tokencache.Event) string {
	if text, ok := failures[e.Kind]; ok && e.Err != nil {
		return text
	}
	about := e.Detail
	switch e.Kind {
	case tokencache.EventHit:
		about = e.Source.String()
	case tokencache.EventUnreadable:
		about = "" // the detail says why: see below
	}
	text, ok := wording[e.Kind][about]
	switch {
	case !ok && about == "":
		return string(e.Kind)
	case !ok:
		return string(e.Kind) + ": " + about
	case e.Kind == tokencache.EventUnreadable && e.Detail != "":
		return text + ": " + e.Detail
	}
	return text
}
