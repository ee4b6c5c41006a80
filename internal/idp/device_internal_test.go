package idp

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestDeviceIntervalGrows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st, rm := newStore(), &realm{issuer: "iss"}
		value := st.startDevice(&device{
			issuer: "iss", interval: 5 * time.Second, expires: time.Now().Add(time.Minute), session: session{clientID: "c"},
		})
		for i, step := range []struct {
			wait time.Duration
			want string
		}{
			{0, "authorization_pending"}, {5 * time.Second, "authorization_pending"}, {4 * time.Second, "slow_down"}, // now 10 s
			{9500 * time.Millisecond, "authorization_pending"}, {8 * time.Second, "slow_down"}, // now 15 s
			{10 * time.Second, "slow_down"}, {23 * time.Second, "authorization_pending"}, {time.Second, "expired_token"},
			{time.Minute, "expired_token"}, {deviceMemory, "invalid_grant"},
		} {
			time.Sleep(step.wait)
			if _, e := st.poll(value, "c", rm); e == nil || e.code != step.want {
				t.Fatalf("step %d: %v, want %s", i, e, step.want)
			}
		}
	})
}

func TestDeviceApprovedInTime(t *testing.T) {
	t.Parallel()
	for wait, ok := range map[time.Duration]bool{0: true, 59 * time.Second: true, time.Minute: false} {
		synctest.Test(t, func(t *testing.T) {
			st, rm := newStore(), &realm{issuer: "iss"}
			d := &device{issuer: "iss", interval: time.Second, expires: time.Now().Add(time.Minute), session: session{clientID: "c"}}
			value := st.startDevice(d)
			time.Sleep(wait)
			err := st.approve(strings.ToLower(d.userCode), user{key: "anna"}, "sid")
			if (err == nil) != ok {
				t.Errorf("after %s: %v, want success %v", wait, err, ok)
			}
			sess, e := st.poll(value, "c", rm) // at once: no reason to slow down whom the user has approved
			if (e == nil) != ok || (ok && (sess.user.key != "anna" || !st.alive(sess.familyID))) {
				t.Errorf("after %s: %v", wait, e)
			}
		})
	}
}

func TestUserCodes(t *testing.T) {
	t.Parallel()
	seen := map[rune]bool{}
	for range 1000 {
		code := newUserCode()
		bare := bareUserCode(" " + strings.ToLower(code))
		if len(bare) != userCodeLength || strings.Trim(bare, userCodeLetters) != "" || code[4] != '-' {
			t.Fatalf("%d letters of a user code are of another kind", len(bare))
		}
		for _, r := range bare {
			seen[r] = true
		}
	}
	if len(seen) != len(userCodeLetters) {
		t.Errorf("%d letters are used, want %d", len(seen), len(userCodeLetters))
	}
}
