"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "aliases_seen",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", "alias", name=op.f("pk_aliases_seen")),
    )
    op.create_table(
        "campaigns",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("release", sa.String(), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_utc", sa.DateTime(timezone=True), nullable=False),
        sa.Column("alarm_utc", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaigns")),
        sa.UniqueConstraint("number", name=op.f("uq_campaigns_number")),
    )
    with op.batch_alter_table("campaigns", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_campaigns_alarm_utc"), ["alarm_utc"], unique=False)
        batch_op.create_index(batch_op.f("ix_campaigns_release"), ["release"], unique=False)
        batch_op.create_index(batch_op.f("ix_campaigns_state"), ["state"], unique=False)

    op.create_table(
        "counters",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counters")),
    )
    op.create_table(
        "devices",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("profile", sa.String(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("inventory", sa.JSON(), nullable=False),
        sa.Column("agent_version", sa.String(), nullable=False),
        sa.Column("running_digest", sa.String(), nullable=False),
        sa.Column("confirmed_digest", sa.String(), nullable=False),
        sa.Column("ledger", sa.JSON(), nullable=False),
        sa.Column("created_utc", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_utc", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_devices")),
    )
    with op.batch_alter_table("devices", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_devices_revision"), ["revision"], unique=False)
        batch_op.create_index(batch_op.f("ix_devices_state"), ["state"], unique=False)

    op.create_table(
        "event_followers",
        sa.Column("follower", sa.String(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("follower", name=op.f("pk_event_followers")),
    )
    op.create_table(
        "events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("utc", sa.String(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("data", sa.String(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_events")),
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_events_event"), ["event"], unique=False)
        batch_op.create_index(batch_op.f("ix_events_subject"), ["subject"], unique=False)

    op.create_table(
        "feature_schemas",
        sa.Column("schema_id", sa.String(length=16), nullable=False),
        sa.Column("schema", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("schema_id", name=op.f("pk_feature_schemas")),
    )
    op.create_table(
        "releases",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("model_version", sa.String(), nullable=False),
        sa.Column("manifests", sa.JSON(), nullable=False),
        sa.Column("approval", sa.JSON(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("created_utc", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_releases")),
        sa.UniqueConstraint("name", "number", name=op.f("uq_releases_name")),
    )
    with op.batch_alter_table("releases", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_releases_model_version"), ["model_version"], unique=False)
        batch_op.create_index(batch_op.f("ix_releases_state"), ["state"], unique=False)

    op.create_table(
        "build_jobs",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("release", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("job", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("claimed_by", sa.String(), nullable=False),
        sa.Column("claimed_utc", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_utc", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["release"], ["releases.id"], name=op.f("fk_build_jobs_release")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_build_jobs")),
        sa.UniqueConstraint("release", name=op.f("uq_build_jobs_release")),
    )
    with op.batch_alter_table("build_jobs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_build_jobs_state"), ["state"], unique=False)

    op.create_table(
        "credentials",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("certificate_pem", sa.String(), nullable=False),
        sa.Column("not_after", sa.DateTime(timezone=True), nullable=False),
        sa.Column("batch_key_id", sa.String(), nullable=False),
        sa.Column("batch_public_key", sa.String(length=64), nullable=False),
        sa.Column("revoked", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name=op.f("fk_credentials_device")),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_credentials")),
    )
    with op.batch_alter_table("credentials", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_credentials_device"), ["device"], unique=False)

    op.create_table(
        "desired",
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("director_version", sa.BigInteger(), nullable=False),
        sa.Column("issued_utc", sa.DateTime(timezone=True), nullable=False),
        sa.Column("order", sa.JSON(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name=op.f("fk_desired_device")),
        sa.PrimaryKeyConstraint("device", name=op.f("pk_desired")),
    )
    with op.batch_alter_table("desired", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_desired_revision"), ["revision"], unique=False)

    op.create_table(
        "executions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("campaign", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("wave", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("target_digest", sa.String(), nullable=False),
        sa.Column("previous_digest", sa.String(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("activate", sa.Boolean(), nullable=False),
        sa.Column("withdrawn", sa.Boolean(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("offered_utc", sa.DateTime(timezone=True), nullable=True),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["campaign"], ["campaigns.id"], name=op.f("fk_executions_campaign")),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name=op.f("fk_executions_device")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_executions")),
        sa.UniqueConstraint("fence", name=op.f("uq_executions_fence")),
    )
    with op.batch_alter_table("executions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_executions_campaign"), ["campaign"], unique=False)
        batch_op.create_index(batch_op.f("ix_executions_device"), ["device"], unique=False)
        batch_op.create_index(batch_op.f("ix_executions_state"), ["state"], unique=False)

    op.create_table(
        "reports",
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("execution", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("received_utc", sa.DateTime(timezone=True), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name=op.f("fk_reports_device")),
        sa.PrimaryKeyConstraint("device", "execution", "seq", name=op.f("pk_reports")),
    )
    op.create_table(
        "signed_bundles",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("release", sa.String(), nullable=False),
        sa.Column("profile", sa.String(), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["release"], ["releases.id"], name=op.f("fk_signed_bundles_release")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_signed_bundles")),
    )
    with op.batch_alter_table("signed_bundles", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_signed_bundles_release"), ["release"], unique=False)

    op.create_table(
        "waves",
        sa.Column("campaign", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("devices", sa.JSON(), nullable=False),
        sa.Column("gates", sa.JSON(), nullable=False),
        sa.Column("soak_s", sa.Double(), nullable=False),
        sa.Column("deadline_utc", sa.DateTime(timezone=True), nullable=True),
        sa.Column("soak_until_utc", sa.DateTime(timezone=True), nullable=True),
        sa.Column("verdicts", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["campaign"], ["campaigns.id"], name=op.f("fk_waves_campaign")),
        sa.PrimaryKeyConstraint("campaign", "number", name=op.f("pk_waves")),
    )
    op.create_table(
        "enrolment_requests",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("csr_pem", sa.String(), nullable=False),
        sa.Column("batch_public_key", sa.String(length=64), nullable=False),
        sa.Column("created_utc", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name=op.f("fk_enrolment_requests_device")),
        sa.ForeignKeyConstraint(["fingerprint"], ["credentials.fingerprint"], name=op.f("fk_enrolment_requests_fingerprint")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enrolment_requests")),
    )
    with op.batch_alter_table("enrolment_requests", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_enrolment_requests_device"), ["device"], unique=False)

    op.create_table(
        "enrolment_tokens",
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("preregistered", sa.Boolean(), nullable=False),
        sa.Column("expires_utc", sa.DateTime(timezone=True), nullable=False),
        sa.Column("spent_key_sha256", sa.String(length=64), nullable=False),
        sa.Column("request", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["request"], ["enrolment_requests.id"], name=op.f("fk_enrolment_tokens_request")),
        sa.PrimaryKeyConstraint("secret_sha256", name=op.f("pk_enrolment_tokens")),
    )
