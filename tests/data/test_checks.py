import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_gserec.data.checks import check_short_users, check_time_order
from recbole_gserec.errors import DataError, SettingError
from recbole_gserec.settings.values import check_choice


def test_choice():
    check_choice("mode", "a", ("a", "b"))
    with pytest.raises(SettingError, match="^mode is 'c'; it must be 'a' or 'b'$"):
        check_choice("mode", "c", ("a", "b"))
    with pytest.raises(SettingError, match="mode is 'None'"):
        check_choice("mode", None, ("a", "b"))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4)), min_size=1, max_size=12))
def test_time_order_equals_a_plain_loop(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "d.inter"
    path.write_text("user_id:token\ttime:float\n" + "".join(f"{user}\t{time}\n" for user, time in rows))
    latest, backwards = {}, []
    for line, (user, time) in enumerate(rows, start=2):
        if time < latest.get(user, time):
            backwards.append((line, user))
        latest[user] = time
    users = pd.Series([user for user, _ in rows], dtype="category")
    times = pd.Series([float(time) for _, time in rows]).to_numpy()
    if not backwards:
        check_time_order(path, users, times, "utf-8")
        return
    with pytest.raises(DataError) as caught:
        check_time_order(path, users, times, "utf-8")
    line, user = backwards[0]
    assert (caught.value.path, caught.value.line) == (path, line)
    assert f"the time of user '{user}' runs backwards ({len(backwards)} rows in all)" in str(caught.value)
    assert "--unordered_timestamps=sort" in str(caught.value)


def test_time_order_is_that_of_each_user_alone(tmp_path):
    users = pd.Series(["a", "b", "a", "b"], dtype="category")
    check_time_order(tmp_path / "unread", users, pd.Series([5.0, 1.0, 5.0, 2.0]).to_numpy(), "utf-8")


def test_short_users():
    users = pd.Series([*"aaabbbbcc", "d"], dtype="category")
    with pytest.raises(DataError, match="2 users have fewer than 3 interactions") as caught:
        check_short_users("d.inter", users)
    assert "one of them: 'c'" in str(caught.value) or "one of them: 'd'" in str(caught.value)
    assert '--user_inter_num_interval="[3,inf)"' in str(caught.value)
    assert "--short_users=keep" in str(caught.value)


def test_users_filtered_away_are_not_short():
    # A category without rows is a user that a filter has dropped.
    check_short_users("d.inter", pd.Series([*"aaab"], dtype="category").iloc[:3])
