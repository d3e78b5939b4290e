package store

import (
	"bytes"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

// topicKey is where a subscription stands for its topic, userTopicKey for its user.
func topicKey(app, topic string, s presence.Subscriber) []byte {
	return append(prefixOf(app), append(prefixOf(topic), pair(s.Email, s.Device)...)...)
}

func userTopicKey(app, topic string, s presence.Subscriber) []byte {
	return append(prefixOf(s.Email), append(prefixOf(app), pair(topic, s.Device)...)...)
}

// Subscribe keeps a subscription; see [presence.Topics].
func (s *Store) Subscribe(app, topic string, who presence.Subscriber, max int) error {
	if err := checkKeys("appid, topic, e-mail, device and puid", app, topic, who.Email, who.Device, who.PUID); err != nil {
		return err
	}
	key := userTopicKey(app, topic, who)
	return s.update(
		func(tx *bbolt.Tx) error {
			b := inTopicsByUser.of(tx)
			if b.Get(key) == nil && len(keysOf(b, append(prefixOf(who.Email), prefixOf(app)...), max)) >= max {
				return ErrFull
			}
			return nil
		},
		func(tx *bbolt.Tx) error {
			if err := inTopicsByUser.of(tx).Put(key, []byte(who.PUID)); err != nil {
				return err
			}
			return inTopics.of(tx).Put(topicKey(app, topic, who), []byte(who.PUID))
		})
}

// Unsubscribe forgets a subscription, if it is there.
func (s *Store) Unsubscribe(app, topic string, who presence.Subscriber) error {
	return s.update(nil, func(tx *bbolt.Tx) error {
		if err := inTopicsByUser.of(tx).Delete(userTopicKey(app, topic, who)); err != nil {
			return err
		}
		return inTopics.of(tx).Delete(topicKey(app, topic, who))
	})
}

// SubscribersOf returns those behind after, in the order of (e-mail, device), at most max.
func (s *Store) SubscribersOf(app, topic string, after presence.Subscriber, max int) (list []presence.Subscriber, err error) {
	prefix := append(prefixOf(app), prefixOf(topic)...)
	from := prefix
	if after.Email != "" {
		from = topicKey(app, topic, after)
	}
	err = s.view(func(tx *bbolt.Tx) error {
		c := inTopics.of(tx).Cursor()
		k, v := c.Seek(from)
		if after.Email != "" && bytes.Equal(k, from) {
			k, v = c.Next()
		}
		for ; bytes.HasPrefix(k, prefix) && len(list) < max; k, v = c.Next() {
			email, device := splitPair(k[len(prefix):])
			list = append(list, presence.Subscriber{Email: email, Device: device, PUID: string(v)})
		}
		return nil
	})
	return list, err
}

// TopicsOf returns the user's subscriptions with the app.
func (s *Store) TopicsOf(email, app string) (list []presence.Subscription, err error) {
	prefix := append(prefixOf(email), prefixOf(app)...)
	return collect(s, inTopicsByUser, prefix, func(_ *bbolt.Tx, k, _ []byte) (presence.Subscription, error) {
		topic, device := splitPair(k[len(prefix):])
		return presence.Subscription{Device: device, Topic: topic}, nil
	})
}

// dropTopics forgets the user's subscriptions with the app but for those under this PUID.
func dropTopics(tx *bbolt.Tx, email, app, puid string) error {
	b, prefix := inTopicsByUser.of(tx), append(prefixOf(email), prefixOf(app)...)
	for _, k := range keysOf(b, prefix, 0) {
		if puid != "" && string(b.Get(k)) == puid {
			continue
		}
		topic, device := splitPair(k[len(prefix):])
		if err := inTopics.of(tx).Delete(topicKey(app, topic, presence.Subscriber{Email: email, Device: device})); err != nil {
			return err
		}
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// checkTopics compares both ways in which subscriptions are stored.
func checkTopics(tx *bbolt.Tx) error {
	byUser := tally{inTopicsByUser, map[string]string{}}
	c := inTopics.of(tx).Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		app, rest := splitPair(k)
		topic, rest := splitPair([]byte(rest))
		email, device := splitPair([]byte(rest))
		byUser.want[string(userTopicKey(app, topic, presence.Subscriber{Email: email, Device: device}))] = string(v)
	}
	return byUser.check(tx)
}
