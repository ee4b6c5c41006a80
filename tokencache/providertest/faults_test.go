package providertest_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// fault is one way to break the contract.
type fault string

const (
	none fault = ""

	capabilityTypedNil fault = "offers a typed nil"
	capabilityChanges  fault = "stops offering something"

	tombstoneDeletes   fault = "deletes instead of keeping a tombstone"
	tombstoneNotLoaded fault = "does not load tombstones"
	tombstoneIsNothing fault = "lets a creation replace a tombstone"
	tombstoneExpires   fault = "lets a tombstone expire with what it removed"

	conditionsIgnored    fault = "ignores conditions"
	updateInserts        fault = "inserts on update"
	zeroVersionIsNothing fault = "takes nothing for the zero version"
	checkThenAct         fault = "checks and acts in two steps"
	saveTorn             fault = "saves version and content in two steps"
	staleRead            fault = "loads an older version now and then"

	sliceShared       fault = "returns its own slice"
	sliceKept         fault = "keeps the caller's slice"
	tooLargeTruncated fault = "truncates what is too large"
	nameFolded        fault = "folds names"

	expiryIgnored      fault = "ignores expiry"
	expiredIsSomething fault = "updates what has expired"
	expiryKept         fault = "keeps the first expiry"
	expiryInSeconds    fault = "takes milliseconds for seconds"

	contextIgnored  fault = "ignores the context"
	contextNotFound fault = "reports a cancelled context as ErrNotFound"

	markIgnored         fault = "ignores the mark"
	markStopsTombstones fault = "holds tombstones to the mark"
	markAfterConflict   fault = "looks at the condition before the mark"
	markForEver         fault = "keeps marks for ever"
	markKept            fault = "keeps an earlier mark"
	markNotWithNotFound fault = "shows no mark along with ErrNotFound"
	markThenAct         fault = "looks at the mark and saves in two steps"

	listRemoved fault = "lists what was removed"
	listExpired fault = "lists what has expired"
	listForgets fault = "drops a partition from the index"
	listLags    fault = "adds to the index after the save"
	listGap     fault = "takes a partition out of the index while it is written"
	listDrops   fault = "drops an owner from the index with one partition"

	leaseShared        fault = "lets two hold a lease"
	leaseReentrant     fault = "gives a lease to its holder again"
	leaseForEver       fault = "never ends a lease"
	leaseRenewsLost    fault = "renews a lost lease"
	leaseReleasesOther fault = "releases the lease of another"
	leaseRenewsFree    fault = "renews a lease that ran out and that nobody took"
	leaseRenewsNothing fault = "does not extend a lease"
	leaseOfContext     fault = "ends a lease with the context of its Acquire"
	leaseThenAct       fault = "looks for a holder and takes the lease in two steps"

	touchInserts    fault = "inserts on touch"
	touchAnyVersion fault = "touches any version"
	touchNewVersion fault = "changes the version on touch"

	watchNotMissed  fault = "does not begin with Missed"
	watchNotOwn     fault = "does not tell of its own changes"
	watchReturnsNil fault = "returns nil from Watch"
	watchGoesOn     fault = "notifies after Watch returned"
	watchLoses      fault = "loses a change now and then"
	watchMissedOnce fault = "begins with Missed the first time only"
	watchGap        fault = "sends Missed before it listens"
	watchReplaced   fault = "tells the new version as the one that was replaced"

	peerRecords fault = "does not see what its peer saves over what it has loaded"
	peerMarks   fault = "does not see its peer's marks"
	peerLeases  fault = "does not see its peer's leases"
	peerChanges fault = "does not tell of its peer's changes"

	sweepRemovesLiving fault = "sweeps tombstones that have not expired"

	namesLiving    fault = "does not name tombstones"
	namesOfMarks   fault = "names what has a mark and nothing else"
	namesByOwner   fault = "goes on behind the owner of the last name"
	namesByNumber  fault = "goes on by the number of names"
	namesGap       fault = "leaves out the first name of a page"
	namesLocal     fault = "goes on in the value that began only"
	namesOnePage   fault = "has one page"
	namesEndless   fault = "names again without end"
	namesAnyCursor fault = "takes any cursor"
	namesOfContext fault = "names although the context has ended"

	// These matter to a Cache, and only cacheFaults has them.
	peerNothing      fault = "does not see what its peer saves"
	saveForgets      fault = "acknowledges a save now and then that it does not make"
	saveForgetsHalf  fault = "acknowledges every other save without making it"
	largeTruncated   fault = "truncates what is large"
	ownerNamed       fault = "keeps one record of each owner"
	tombstoneIgnored fault = "acknowledges tombstones that it does not keep"
	touchNothing     fault = "acknowledges a touch that it does not make"
	listNothing      fault = "lists nothing"
	localCopies      fault = "is on this machine, and keeps copies"
	watchBabbles     fault = "tells of changes when a record is only loaded"
)

// faults has the tests that must fail, which are about the fault. Others may.
func faults() map[fault][]string {
	return map[fault][]string{
		capabilityTypedNil:   {"Basic/Capabilities"},
		capabilityChanges:    {"Basic/Capabilities"},
		tombstoneDeletes:     {"Basic/Tombstone"},
		tombstoneNotLoaded:   {"Basic/RemoveAbsent"},
		tombstoneIsNothing:   {"Conditions/Table"},
		conditionsIgnored:    {"Conditions/LostUpdate"},
		updateInserts:        {"Conditions/UpdateNeverInserts"},
		zeroVersionIsNothing: {"Conditions/Table"},
		tombstoneExpires:     {"Expiry/TombstoneStays"},
		checkThenAct:         {"Concurrency/CreateRace", "Concurrency/Counter", "Concurrency/History"},
		saveTorn:             {"Concurrency/AllOrNothing"},
		staleRead:            {"Concurrency/History"},
		sliceShared:          {"Basic/SliceOfProvider"},
		sliceKept:            {"Basic/SliceOfCaller"},
		tooLargeTruncated:    {"Values/FarTooLarge"},
		nameFolded:           {"Values/Names"},
		expiryIgnored:        {"Expiry/Vanishes"},
		expiredIsSomething:   {"Expiry/NoResurrection"},
		expiryKept:           {"Expiry/Replaced"},
		expiryInSeconds:      {"Expiry/Vanishes"},
		contextIgnored:       {"Context/Save"},
		contextNotFound:      {"Context/Load"},
		markIgnored:          {"Owners/RemoveOwnerRace"},
		markStopsTombstones:  {"Owners/MarkAccepts"},
		markAfterConflict:    {"Owners/MarkRefuses"},
		markForEver:          {"Owners/MarkExpires"},
		markKept:             {"Owners/MarkReplaced"},
		markNotWithNotFound:  {"Owners/MarkSeen"},
		markThenAct:          {"Owners/RemoveOwnerRace", "Owners/RemoveOwnerStorm", "Concurrency/History"},
		listRemoved:          {"Owners/ListRemoved"},
		listExpired:          {"Owners/ListExpired"},
		listForgets:          {"Owners/ListRemoved"},
		listLags:             {"Owners/ListRace"},
		listGap:              {"Owners/ListRace"},
		listDrops:            {"Owners/ListRemoved", "Owners/ListRace"},
		leaseShared:          {"Leaser/Exclusive"},
		leaseReentrant:       {"Leaser/Exclusive"},
		leaseForEver:         {"Leaser/RunsOut"},
		leaseRenewsLost:      {"Leaser/RenewLost"},
		leaseReleasesOther:   {"Leaser/ReleaseLost"},
		leaseRenewsFree:      {"Leaser/RenewLost"},
		leaseRenewsNothing:   {"Leaser/Renew", "Leaser/Contention"},
		leaseOfContext:       {"Leaser/Killed"},
		leaseThenAct:         {"Leaser/Race", "Leaser/Contention"},
		touchInserts:         {"Toucher/Errors"},
		touchAnyVersion:      {"Toucher/Errors"},
		touchNewVersion:      {"Toucher/Changes"},
		watchNotMissed:       {"Watcher/MissedFirst"},
		watchNotOwn:          {"Watcher/Changes"},
		watchReturnsNil:      {"Watcher/Ends"},
		watchGoesOn:          {"Watcher/Ends"},
		watchLoses:           {"Watcher/Crowd"},
		watchMissedOnce:      {"Watcher/Again"},
		watchGap:             {"Watcher/Gapless"},
		watchReplaced:        {"Watcher/Changes"},
		peerRecords:          {"Basic/ReadYourWrites"},
		peerMarks:            {"Owners/MarkSeen"},
		peerLeases:           {"Leaser/Exclusive"},
		peerChanges:          {"Watcher/Changes"},
		sweepRemovesLiving:   {"Sweeper/Sweep"},
		namesLiving:          {"Lister/All"},
		namesOfMarks:         {"Lister/All"},
		namesByOwner:         {"Lister/All"},
		namesByNumber:        {"Lister/Changes"},
		namesGap:             {"Lister/All"},
		namesLocal:           {"Lister/Resumed"},
		namesOnePage:         {"Lister/All"},
		namesEndless:         {"Lister/All"},
		namesAnyCursor:       {"Lister/Cursor"},
		namesOfContext:       {"Lister/Context"},
	}
}

// faultVariable tells TestReference, in a process of its own, what to do wrong.
const faultVariable = "PROVIDERTEST_FAULT"

// TestFaults runs those tests on every faulty provider, each in another process,
// as a test cannot fail without failing this one.
func TestFaults(t *testing.T) {
	t.Parallel()
	if os.Getenv(faultVariable) != "" {
		t.Skip("this is such a process")
	}
	for f, tests := range faults() {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			wantFound(t, "TestReference", f, tests)
		})
	}
}

// wantFound wants those tests to fail, if the provider has the fault.
func wantFound(t *testing.T, suite string, f fault, tests []string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0],
		"-test.run=^"+suite+"$/"+selecting(tests), "-test.timeout=1m")
	command.Env = append(os.Environ(), faultVariable+"="+string(f))
	out, err := command.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("it passed (error %v)\n%s", err, out)
	}
	for _, test := range tests {
		if want := "--- FAIL: " + suite + "/" + test + " "; !strings.Contains(string(out), want) {
			t.Errorf("it failed, but without %q:\n%s", want, shorten(out))
		}
	}
	if !strings.Contains(string(out), "the contract says:") {
		t.Errorf("no failure quotes the contract:\n%s", shorten(out))
	}
}

// selecting matches the tests, which are named Group/Test, and perhaps more.
func selecting(tests []string) string {
	var groups, names []string
	for _, test := range tests {
		group, name, _ := strings.Cut(test, "/")
		groups, names = append(groups, group), append(names, name)
	}
	return "^(" + strings.Join(groups, "|") + ")$/^(" + strings.Join(names, "|") + ")$"
}

func shorten(out []byte) string {
	const most = 4000
	if len(out) > most {
		out = out[:most]
	}
	return string(out)
}
